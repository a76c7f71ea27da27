//! StableLM: Llama with LayerNorms and a rotation of one quarter of each head; attention and MLP may stand side by
//! side.
//!
//! Reference: `transformers/models/stablelm/modeling_stablelm.py`.

use serde::Deserialize;

use crate::config::Order;
use crate::layers::{DenseLayer, NormKind, QkNorm, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig, WeightMap};

/// The `config.json` of a StableLM.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct StableLm(DecoderConfig);

impl From<DecoderConfig> for StableLm {
    fn from(mut config: DecoderConfig) -> Self {
        config.style.norm = NormKind::LayerBias;
        config.style.partial_rotary = Some(0.25);
        if config.use_parallel_residual == Some(true) {
            config.style.order = Order::Parallel;
        }
        config.max_position_embeddings.get_or_insert(4096);
        config.attention_bias = config.use_qkv_bias.unwrap_or(false);
        config.mlp_bias = false;
        Self(config)
    }
}

impl Architecture for StableLm {
    const FAMILY: &'static str = "StableLM";
    const MODEL_TYPES: &'static [&'static str] = &["stablelm"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[
            ("self_attn.q_norm", "self_attn.q_layernorm"),
            ("self_attn.k_norm", "self_attn.k_layernorm"),
        ])
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let qk_norm = self.0.qk_layernorm.then(|| (QkNorm::List, self.0.norm_eps()));
        let attention = SelfAttentionConfig { qk_norm, o_bias: false, ..SelfAttentionConfig::new(&self.0) };
        DenseLayer::new(&self.0, &attention, device)
    }
}
