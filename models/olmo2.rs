//! OLMo 2: Llama whose norms stand behind attention and MLP, and norm all queries and all keys of a token together.
//!
//! Reference: `transformers/models/olmo2/modeling_olmo2.py`.

use serde::Deserialize;

use crate::config::Order;
use crate::layers::{DenseLayer, NormKind, QkNorm, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig, WeightMap};

/// The `config.json` of an OLMo 2.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Olmo2(DecoderConfig);

impl From<DecoderConfig> for Olmo2 {
    fn from(mut config: DecoderConfig) -> Self {
        config.style.order = Order::Post;
        config.mlp_bias = false;
        config.rms_norm_eps.get_or_insert(1e-5);
        Self(config)
    }
}

impl Architecture for Olmo2 {
    const FAMILY: &'static str = "OLMo 2";
    const MODEL_TYPES: &'static [&'static str] = &["olmo2"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::post_norms()
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let attention = SelfAttentionConfig {
            qk_norm: Some((QkNorm::Whole(NormKind::Rms), self.0.rms_norm_eps())),
            ..SelfAttentionConfig::new(&self.0)
        };
        DenseLayer::new(&self.0, &attention, device)
    }
}

impl WeightMap {
    /// What families that norm behind attention and MLP alone call these norms.
    pub(crate) fn post_norms() -> Self {
        Self::renamed(&[
            ("post_self_attn_layernorm", "post_attention_layernorm"),
            ("post_mlp_layernorm", "post_feedforward_layernorm"),
        ])
    }
}
