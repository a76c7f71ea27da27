//! OLMo: Llama whose norms have no parameters; queries, keys and values may be cut off.
//!
//! Reference: `transformers/models/olmo/modeling_olmo.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, NormKind, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig};

/// The `config.json` of an OLMo.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Olmo(DecoderConfig);

impl From<DecoderConfig> for Olmo {
    fn from(mut config: DecoderConfig) -> Self {
        config.style.norm = NormKind::LayerPlain;
        config.layer_norm_eps = Some(1e-5);
        config.mlp_bias = false;
        Self(config)
    }
}

impl Architecture for Olmo {
    const FAMILY: &'static str = "OLMo";
    const MODEL_TYPES: &'static [&'static str] = &["olmo"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        DenseLayer::new(&self.0, &SelfAttentionConfig::new(&self.0), device)
    }
}
