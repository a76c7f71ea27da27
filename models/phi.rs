//! Phi-1, Phi-1.5 and Phi-2: attention and MLP side by side behind one LayerNorm, biases everywhere, a part of each head
//! that stays.
//!
//! Reference: `transformers/models/phi/modeling_phi.py`.

use serde::Deserialize;

use crate::config::Order;
use crate::layers::{DenseLayer, NormKind, QkNorm, SelfAttentionConfig};
use crate::{Activation, Architecture, Backend, DecoderConfig, Names, WeightMap};

/// The `config.json` of a Phi.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Phi(DecoderConfig);

impl From<DecoderConfig> for Phi {
    fn from(mut config: DecoderConfig) -> Self {
        let style = &mut config.style;
        (style.norm, style.order, style.gated) = (NormKind::LayerBias, Order::Parallel, false);
        (style.head_bias, style.partial_rotary) = (true, Some(0.5));
        if config.hidden_act == Activation::Silu {
            config.hidden_act = Activation::GeluPytorchTanh;
        }
        (config.attention_bias, config.mlp_bias) = (true, true);
        Self(config)
    }
}

impl Architecture for Phi {
    const FAMILY: &'static str = "Phi-1, Phi-2";
    const MODEL_TYPES: &'static [&'static str] = &["phi"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn names(&self) -> Names {
        Names { norm: "final_layernorm", ..Names::default() }
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[
            ("self_attn.o_proj", "self_attn.dense"),
            ("self_attn.q_norm", "self_attn.q_layernorm"),
            ("self_attn.k_norm", "self_attn.k_layernorm"),
            ("mlp.up_proj", "mlp.fc1"),
            ("mlp.down_proj", "mlp.fc2"),
        ])
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let norm = (QkNorm::Each(NormKind::LayerBias), self.0.norm_eps());
        let qk_norm = self.0.qk_layernorm.then_some(norm);
        let attention = SelfAttentionConfig { qk_norm, ..SelfAttentionConfig::new(&self.0) };
        DenseLayer::new(&self.0, &attention, device)
    }
}
