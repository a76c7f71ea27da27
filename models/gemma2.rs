//! Gemma 2: Gemma with norms behind attention and MLP too, softly capped scores and logits, and a window in every other
//! layer.
//!
//! Reference: `transformers/models/gemma2/modeling_gemma2.py`.

use serde::Deserialize;

use crate::config::Order;
use crate::layers::{DenseLayer, Opening, SelfAttentionConfig};
use crate::{Activation, Architecture, Backend, ConfigError, DecoderConfig, WeightMap};

/// The `config.json` of a Gemma 2.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Gemma2(DecoderConfig);

impl From<DecoderConfig> for Gemma2 {
    fn from(mut config: DecoderConfig) -> Self {
        config.gemma_defaults();
        config.gemma2_defaults();
        config.window_pattern(2);
        Self(config)
    }
}

impl Architecture for Gemma2 {
    const FAMILY: &'static str = "Gemma 2";
    const MODEL_TYPES: &'static [&'static str] = &["gemma2"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.0.check().and_then(|()| self.0.check_typed_windows())
    }

    fn sliding_window(&self, index: usize) -> Option<usize> {
        self.0.typed_window(index)
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::gemma2()
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let base = SelfAttentionConfig::new(&self.0);
        let (sliding_window, scale) = (self.sliding_window(index), self.0.gemma2_scale());
        let attention = SelfAttentionConfig { sliding_window, scale, ..base };
        let layer = DenseLayer::new(&self.0, &attention, device);
        layer.opened(index, || Opening::scaled(self.0.embedding_scale()))
    }
}

impl DecoderConfig {
    /// What Gemma 2 and 3 have in common.
    pub(crate) fn gemma2_defaults(&mut self) {
        self.style.softcaps = true;
        self.style.order = Order::Around;
        self.hidden_act = self.hidden_activation.unwrap_or(Activation::GeluPytorchTanh);
        self.sliding_window.get_or_insert(Some(4096));
        self.num_key_value_heads.get_or_insert(Some(4));
    }

    /// What Gemma 2 and 3 multiply scores by.
    pub(crate) fn gemma2_scale(&self) -> f64 {
        self.query_pre_attn_scalar.unwrap_or(256.0).powf(-0.5)
    }
}

impl WeightMap {
    /// What Gemma 4 and 3n call what layers make of their own inputs.
    pub(crate) fn layer_inputs() -> Self {
        let map = Self::renamed(&[
            ("layer_input.per_layer_input_gate", "per_layer_input_gate"),
            ("layer_input.per_layer_projection", "per_layer_projection"),
            ("layer_input.post_per_layer_input_norm", "post_per_layer_input_norm"),
        ]);
        map.outside("layer_inputs.per_layer_model_projection", "per_layer_model_projection")
            .outside("layer_inputs.per_layer_projection_norm", "per_layer_projection_norm")
    }

    /// What checkpoints have of layers that read the keys and values of others, and nobody reads.
    pub(crate) const OF_SHARED_KEYS: &[&str] = &[
        "rotary_emb.inv_freq",
        ".self_attn.k_proj.weight",
        ".self_attn.v_proj.weight",
        ".self_attn.k_norm.weight",
        ".self_attn.v_norm.weight",
    ];

    /// What Gemma 2 and 3 call the four norms.
    pub(crate) fn gemma2() -> Self {
        Self::renamed(&[
            ("post_self_attn_layernorm", "post_attention_layernorm"),
            ("post_attention_layernorm", "pre_feedforward_layernorm"),
            ("post_mlp_layernorm", "post_feedforward_layernorm"),
        ])
    }
}
