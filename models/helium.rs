//! Helium: Llama that rotates neighbours.
//!
//! Reference: `transformers/models/helium/modeling_helium.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig};

/// The `config.json` of a Helium.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Helium(DecoderConfig);

impl From<DecoderConfig> for Helium {
    fn from(mut config: DecoderConfig) -> Self {
        config.style.interleaved = true;
        config.head_dim.get_or_insert(128);
        config.rms_norm_eps.get_or_insert(1e-8);
        config.max_position_embeddings.get_or_insert(4096);
        Self(config)
    }
}

impl Architecture for Helium {
    const FAMILY: &'static str = "Helium";
    const MODEL_TYPES: &'static [&'static str] = &["helium"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let attention = SelfAttentionConfig { o_bias: false, ..SelfAttentionConfig::new(&self.0) };
        DenseLayer::new(&self.0, &attention, device)
    }
}
