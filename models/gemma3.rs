//! Gemma 3, its text part: Gemma 2 with norms of queries and keys, and a slower rotation in the layers that see
//! everything.
//!
//! Reference: `transformers/models/gemma3/modeling_gemma3.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, NormKind, Opening, QkNorm, RopeParameters, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, WeightMap};

/// The `config.json` of a Gemma 3, or its `text_config`.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Gemma3 {
    config: DecoderConfig,
    /// Of the layers with a window.
    local: RopeParameters,
}

impl From<DecoderConfig> for Gemma3 {
    fn from(mut config: DecoderConfig) -> Self {
        config.max_position_embeddings.get_or_insert(131_072);
        config.gemma_defaults();
        config.gemma2_defaults();
        config.window_pattern(config.sliding_window_period().unwrap_or(6));
        // What Gemma's own configs leave out.
        if config.vocab_size == 0 {
            config.vocab_size = 262_208;
        }
        if config.num_attention_heads == 0 {
            config.num_attention_heads = 8;
        }
        let [global, local] = config.ropes_of_kinds();
        config.rope_parameters = Some(global.with_theta(config.rope_theta.unwrap_or(1_000_000.0)));
        let mut local = local.with_theta(config.rope_local_base_freq.unwrap_or(10_000.0));
        local.max_position_embeddings = config.max_positions();
        // The text part takes the field and does not use it.
        config.attn_logit_softcapping = None;
        Self { config, local }
    }
}

impl Architecture for Gemma3 {
    const FAMILY: &'static str = "Gemma 3 (text)";
    const MODEL_TYPES: &'static [&'static str] = &["gemma3_text"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.config.check_generates()?;
        self.local.check()?;
        self.config.check().and_then(|()| self.config.check_typed_windows())
    }

    fn sliding_window(&self, index: usize) -> Option<usize> {
        self.config.typed_window(index)
    }

    fn layer_rope(&self, index: usize) -> RopeParameters {
        if self.sliding_window(index).is_some() { self.local.clone() } else { self.rope() }
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::gemma2()
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let config = &self.config;
        let attention = SelfAttentionConfig {
            sliding_window: self.sliding_window(index),
            scale: config.gemma2_scale(),
            qk_norm: Some((QkNorm::Each(NormKind::RmsPlusOne), config.rms_norm_eps())),
            ..SelfAttentionConfig::new(config)
        };
        let layer = DenseLayer::new(config, &attention, device);
        layer.opened(index, || Opening::scaled(config.embedding_scale()))
    }
}
