//! Phi-3, Phi-3.5, Phi-4 and Phi-4-mini: Llama with fused matrices, factors for each pair of a long rope, and in Phi-4-mini
//! a part of each head that stays.
//!
//! Reference: `transformers/models/phi3/modeling_phi3.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, RopeType, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig, WeightMap};

/// The `config.json` of a Phi-3.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Phi3(DecoderConfig);

impl From<DecoderConfig> for Phi3 {
    fn from(mut config: DecoderConfig) -> Self {
        config.style.partial_rotary = Some(1.0);
        config.rms_norm_eps.get_or_insert(1e-5);
        config.max_position_embeddings.get_or_insert(4096);
        config.original_max_position_embeddings.get_or_insert(4096);
        config.sliding_window.get_or_insert(None);
        (config.attention_bias, config.mlp_bias) = (false, false);
        Self(config)
    }
}

impl Architecture for Phi3 {
    const FAMILY: &'static str = "Phi-3, Phi-4";
    const MODEL_TYPES: &'static [&'static str] = &["phi3"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn recomputes_beyond(&self) -> Option<usize> {
        let rope = self.0.rope();
        (rope.rope_type() == RopeType::LongRope).then_some(rope.original_max_position_embeddings).flatten()
    }

    fn sliding_window(&self, _index: usize) -> Option<usize> {
        self.0.sliding_window.flatten()
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::default().fused_qkv("self_attn.qkv_proj", &self.0).fused_gate("mlp.gate_up_proj", &self.0)
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let sliding_window = self.sliding_window(index);
        let attention = SelfAttentionConfig { sliding_window, ..SelfAttentionConfig::new(&self.0) };
        DenseLayer::new(&self.0, &attention, device)
    }
}
