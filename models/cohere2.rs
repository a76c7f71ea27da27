//! Command R7B and Command A: Command R in which three layers of four have a window, and only these rotate.
//!
//! Reference: `transformers/models/cohere2/modeling_cohere2.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, RopeParameters, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig};

/// The `config.json` of a Command R7B.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Cohere2(DecoderConfig);

impl From<DecoderConfig> for Cohere2 {
    fn from(mut config: DecoderConfig) -> Self {
        config.cohere_defaults();
        config.head_dim = None;
        config.sliding_window.get_or_insert(Some(4096));
        config.window_pattern(config.sliding_window_period().unwrap_or(4));
        Self(config)
    }
}

impl Architecture for Cohere2 {
    const FAMILY: &'static str = "Command R7B, Command A";
    const MODEL_TYPES: &'static [&'static str] = &["cohere2"];
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

    fn layer_rope(&self, index: usize) -> RopeParameters {
        let rope = self.rope();
        if self.sliding_window(index).is_some() { rope } else { rope.none() }
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let attention =
            SelfAttentionConfig { sliding_window: self.sliding_window(index), ..SelfAttentionConfig::new(&self.0) };
        DenseLayer::new(&self.0, &attention, device)
    }
}
