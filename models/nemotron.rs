//! Nemotron-4 and Minitron: Llama with LayerNorms that multiply by one more than their weight, an MLP that squares a
//! ReLU and has no gate, and a rotation of half of each head.
//!
//! Reference: `transformers/models/nemotron/modeling_nemotron.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, NormKind, SelfAttentionConfig};
use crate::{Activation, Architecture, Backend, DecoderConfig};

/// The `config.json` of a Nemotron.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Nemotron(DecoderConfig);

impl From<DecoderConfig> for Nemotron {
    fn from(mut config: DecoderConfig) -> Self {
        (config.style.norm, config.style.gated) = (NormKind::LayerBiasPlusOne, false);
        config.style.partial_rotary = Some(0.5);
        config.max_position_embeddings.get_or_insert(4096);
        if config.hidden_act == Activation::Silu {
            config.hidden_act = Activation::Relu2;
        }
        Self(config)
    }
}

impl Architecture for Nemotron {
    const FAMILY: &'static str = "Nemotron, Minitron";
    const MODEL_TYPES: &'static [&'static str] = &["nemotron"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        DenseLayer::new(&self.0, &SelfAttentionConfig::new(&self.0), device)
    }
}
