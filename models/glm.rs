//! GLM-4 of 2024: Llama with a fused gate, and rotations of neighbours in one half of each head.
//!
//! Reference: `transformers/models/glm/modeling_glm.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig, WeightMap};

/// The `config.json` of a GLM-4 (9B).
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Glm(DecoderConfig);

impl From<DecoderConfig> for Glm {
    fn from(mut config: DecoderConfig) -> Self {
        config.glm_defaults();
        Self(config)
    }
}

impl Architecture for Glm {
    const FAMILY: &'static str = "GLM-4 (9B)";
    const MODEL_TYPES: &'static [&'static str] = &["glm"];
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

impl DecoderConfig {
    /// What GLM-4 of 2024 and 2025 have in common.
    pub(crate) fn glm_defaults(&mut self) {
        (self.style.partial_rotary, self.style.interleaved) = (Some(0.5), true);
        self.head_dim.get_or_insert(128);
        self.rms_norm_eps.get_or_insert(1.562_5e-7);
        self.num_key_value_heads.get_or_insert(Some(2));
        self.max_position_embeddings.get_or_insert(131_072);
        self.mlp_bias = false;
    }
}
