//! EXAONE 4: Llama whose norms stand behind attention and MLP, with norms of every query and key head; layers that see
//! everything do not rotate where others have a window.
//!
//! Reference: `transformers/models/exaone4/modeling_exaone4.py`.

use serde::Deserialize;

use crate::config::Order;
use crate::layers::{DenseLayer, RopeParameters, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, WeightMap};

/// The `config.json` of an EXAONE 4.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Exaone4(DecoderConfig);

impl From<DecoderConfig> for Exaone4 {
    fn from(mut config: DecoderConfig) -> Self {
        config.style.order = Order::Post;
        (config.attention_bias, config.mlp_bias) = (false, false);
        config.rms_norm_eps.get_or_insert(1e-5);
        config.sliding_window.get_or_insert(Some(4096));
        let all = config.sliding_window.flatten().is_none();
        config.window_pattern(if all { 1 } else { config.sliding_window_period().unwrap_or(4) });
        config.num_key_value_heads.get_or_insert(Some(32));
        Self(config)
    }
}

impl Architecture for Exaone4 {
    const FAMILY: &'static str = "EXAONE 4";
    const MODEL_TYPES: &'static [&'static str] = &["exaone4"];
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

    fn layer_rope(&self, index: usize) -> RopeParameters {
        let rotates = self.sliding_window(index).is_some() || self.0.sliding_window.flatten().is_none();
        if rotates { self.rope() } else { self.rope().none() }
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::post_norms()
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let attention = SelfAttentionConfig {
            sliding_window: self.sliding_window(index),
            qk_norm_eps: Some(self.0.rms_norm_eps()),
            ..SelfAttentionConfig::new(&self.0)
        };
        DenseLayer::new(&self.0, &attention, device)
    }
}
