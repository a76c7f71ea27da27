//! GLM-4 of 2025: that of 2024 with norms behind attention and MLP too.
//!
//! Reference: `transformers/models/glm4/modeling_glm4.py`.

use serde::Deserialize;

use crate::config::Order;
use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig, WeightMap};

/// The `config.json` of a GLM-4 of 2025.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Glm4(DecoderConfig);

impl From<DecoderConfig> for Glm4 {
    fn from(mut config: DecoderConfig) -> Self {
        config.glm_defaults();
        config.style.order = Order::Around;
        Self(config)
    }
}

impl Architecture for Glm4 {
    const FAMILY: &'static str = "GLM-4, GLM-Z1 (0414)";
    const MODEL_TYPES: &'static [&'static str] = &["glm4"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::default().fused_gate("mlp.gate_up_proj", &self.0)
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let attention = SelfAttentionConfig { o_bias: false, ..SelfAttentionConfig::new(&self.0) };
        DenseLayer::new(&self.0, &attention, device)
    }
}
