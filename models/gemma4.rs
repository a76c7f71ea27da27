//! Gemma 4, the text part of its dense models: Gemma 3 whose layers without a window have heads of another size, whose
//! values are normed and may be the keys, and whose layers end in a factor.
//!
//! Reference: `transformers/models/gemma4/modeling_gemma4.py`.

use serde::Deserialize;

use crate::config::unsupported;
use crate::layers::{DenseLayer, NormKind, Opening, RopeParameters, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Dims, WeightMap};

/// The `config.json` of a Gemma 4, or its `text_config`.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Gemma4 {
    config: DecoderConfig,
    /// Of the layers with a window.
    local: RopeParameters,
}

impl From<DecoderConfig> for Gemma4 {
    fn from(mut config: DecoderConfig) -> Self {
        config.max_position_embeddings.get_or_insert(131_072);
        config.sliding_window.get_or_insert(Some(512));
        config.gemma_defaults();
        config.gemma2_defaults();
        (config.style.norm, config.style.layer_scalar) = (NormKind::Rms, true);
        config.attn_logit_softcapping = None;
        config.window_pattern(6);
        // The last layer sees everything, whatever the list says.
        if let Some(last) = config.layer_types.as_mut().and_then(|kinds| kinds.last_mut()) {
            *last = "full_attention".to_owned();
        }
        let [global, local] = config.ropes_of_kinds();
        let global = if global.is_empty() { RopeParameters::proportional(0.25) } else { global };
        config.rope_parameters = Some(global.with_theta(1_000_000.0));
        let mut local = local.with_theta(10_000.0);
        local.max_position_embeddings = config.max_positions();
        Self { config, local }
    }
}

impl Architecture for Gemma4 {
    const FAMILY: &'static str = "Gemma 4 (dense text)";
    const MODEL_TYPES: &'static [&'static str] = &["gemma4_text"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn check(&self) -> Result<(), ConfigError> {
        let config = &self.config;
        let none = "0: layers have no inputs of their own";
        match config.hidden_size_per_layer_input.unwrap_or(256) {
            0 => {}
            width => return Err(unsupported("hidden_size_per_layer_input", width, none)),
        }
        if let Some(layers) = config.num_kv_shared_layers.filter(|layers| *layers != 0) {
            return Err(unsupported("num_kv_shared_layers", layers, "0: every layer has its keys and values"));
        }
        if config.enable_moe_block == Some(true) {
            return Err(unsupported("enable_moe_block", true, "false: a dense model"));
        }
        let [_, [heads, head_dim]] = self.kv_heads();
        if head_dim == 0 || head_dim > 1 << 20 || !head_dim.is_multiple_of(2) {
            return Err(unsupported("global_head_dim", head_dim, "an even number up to a million"));
        }
        if heads == 0 || !config.num_attention_heads.is_multiple_of(heads) {
            let expected = format!("a divisor of num_attention_heads = {}", config.num_attention_heads);
            return Err(unsupported("num_global_key_value_heads", heads, expected));
        }
        config.check_generates()?;
        self.local.check()?;
        config.check().and_then(|()| config.check_typed_windows())
    }

    /// Memory is planned for the wider of both kinds of heads.
    fn dims(&self) -> Dims {
        let kinds = self.kv_heads();
        let head_dim = kinds.iter().map(|[_, head_dim]| *head_dim).max().unwrap_or(1);
        let widest = kinds.iter().map(|[heads, head_dim]| heads * head_dim).max().unwrap_or(1);
        Dims { head_dim, num_kv_heads: widest.div_ceil(head_dim.max(1)), ..self.config.dims() }
    }

    fn sliding_window(&self, index: usize) -> Option<usize> {
        self.config.typed_window(index)
    }

    fn layer_rope(&self, index: usize) -> RopeParameters {
        match self.sliding_window(index) {
            Some(_) => self.local.clone().of_width(self.config.head_dim()),
            None => self.rope().of_width(self.kv_heads()[1][1]),
        }
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::gemma2()
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let config = &self.config;
        let sliding_window = self.sliding_window(index);
        let global = sliding_window.is_none();
        let [num_kv_heads, head_dim] = self.kv_heads()[usize::from(global)];
        let attention = SelfAttentionConfig {
            num_kv_heads,
            head_dim,
            sliding_window,
            scale: 1.0,
            qk_norm_eps: Some(config.rms_norm_eps),
            v_norm_eps: Some(config.rms_norm_eps),
            values_are_keys: global && self.values_are_keys(),
            ..SelfAttentionConfig::new(config)
        };
        let layer = DenseLayer::new(config, &attention, device);
        layer.opened(index, || Opening::scaled(config.embedding_scale()))
    }
}

impl Gemma4 {
    /// Heads of keys and their width, of layers with a window and of those without.
    fn kv_heads(&self) -> [[usize; 2]; 2] {
        let config = &self.config;
        let own = config.num_global_key_value_heads.filter(|_| self.values_are_keys());
        let global = [own.unwrap_or(config.num_kv_heads()), config.global_head_dim.unwrap_or(512)];
        [[config.num_kv_heads(), config.head_dim()], global]
    }

    fn values_are_keys(&self) -> bool {
        self.config.attention_k_eq_v == Some(true)
    }
}
