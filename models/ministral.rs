//! Ministral of 2024: Mistral in which `layer_types` names the layers with a window.
//!
//! Reference: `transformers/models/ministral/modeling_ministral.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig};

/// The `config.json` of a Ministral.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Ministral(DecoderConfig);

impl From<DecoderConfig> for Ministral {
    fn from(mut config: DecoderConfig) -> Self {
        config.num_key_value_heads.get_or_insert(Some(8));
        config.max_position_embeddings.get_or_insert(131_072);
        config.sliding_window.get_or_insert(Some(4096));
        let all = config.sliding_window.flatten().is_none();
        config.window_pattern(if all { 1 } else { 0 });
        (config.attention_bias, config.mlp_bias) = (false, false);
        Self(config)
    }
}

impl Architecture for Ministral {
    const FAMILY: &'static str = "Ministral";
    const MODEL_TYPES: &'static [&'static str] = &["ministral"];
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

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let attention =
            SelfAttentionConfig { sliding_window: self.sliding_window(index), ..SelfAttentionConfig::new(&self.0) };
        DenseLayer::new(&self.0, &attention, device)
    }
}
