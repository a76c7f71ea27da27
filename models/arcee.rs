//! Arcee AFM: Llama whose MLP has no gate and squares a ReLU.
//!
//! Reference: `transformers/models/arcee/modeling_arcee.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Activation, Architecture, Backend, DecoderConfig};

/// The `config.json` of an Arcee AFM.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Arcee(DecoderConfig);

impl From<DecoderConfig> for Arcee {
    fn from(mut config: DecoderConfig) -> Self {
        config.style.gated = false;
        config.rms_norm_eps.get_or_insert(1e-5);
        config.max_position_embeddings.get_or_insert(4096);
        if config.hidden_act == Activation::Silu {
            config.hidden_act = Activation::Relu2;
        }
        Self(config)
    }
}

impl Architecture for Arcee {
    const FAMILY: &'static str = "Arcee AFM";
    const MODEL_TYPES: &'static [&'static str] = &["arcee"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        DenseLayer::new(&self.0, &SelfAttentionConfig::new(&self.0), device)
    }
}
