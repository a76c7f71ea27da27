//! ERNIE 4.5, dense: Llama that rotates neighbours, with biases where `use_bias` says so.
//!
//! Reference: `transformers/models/ernie4_5/modeling_ernie4_5.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig};

/// The `config.json` of an ERNIE 4.5 (dense).
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Ernie45(DecoderConfig);

impl From<DecoderConfig> for Ernie45 {
    fn from(mut config: DecoderConfig) -> Self {
        config.style.interleaved = true;
        let bias = config.use_bias.unwrap_or(false);
        (config.attention_bias, config.mlp_bias) = (bias, bias);
        config.head_dim.get_or_insert(128);
        config.num_key_value_heads.get_or_insert(Some(2));
        config.rms_norm_eps.get_or_insert(1e-5);
        config.max_position_embeddings.get_or_insert(131_072);
        Self(config)
    }
}

impl Architecture for Ernie45 {
    const FAMILY: &'static str = "ERNIE 4.5 (dense)";
    const MODEL_TYPES: &'static [&'static str] = &["ernie4_5"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        DenseLayer::new(&self.0, &SelfAttentionConfig::new(&self.0), device)
    }
}
