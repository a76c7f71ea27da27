//! Seed-OSS: Llama with biases on queries, keys and values.
//!
//! Reference: `transformers/models/seed_oss/modeling_seed_oss.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig};

/// The `config.json` of a Seed-OSS.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct SeedOss(DecoderConfig);

impl From<DecoderConfig> for SeedOss {
    fn from(mut config: DecoderConfig) -> Self {
        config.head_dim.get_or_insert(128);
        config.num_key_value_heads.get_or_insert(Some(8));
        config.max_position_embeddings.get_or_insert(524_288);
        Self(config)
    }
}

impl Architecture for SeedOss {
    const FAMILY: &'static str = "Seed-OSS";
    const MODEL_TYPES: &'static [&'static str] = &["seed_oss"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let attention = SelfAttentionConfig {
            o_bias: self.0.attention_out_bias.unwrap_or(false),
            ..SelfAttentionConfig::new(&self.0)
        };
        DenseLayer::new(&self.0, &attention, device)
    }
}
