//! Qwen2 and Qwen2.5: Llama with biases on q, k and v; layers may see a sliding window.
//!
//! Reference: `transformers/models/qwen2/modeling_qwen2.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig};

/// The `config.json` of a Qwen2.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Qwen2(DecoderConfig);

impl From<DecoderConfig> for Qwen2 {
    fn from(mut config: DecoderConfig) -> Self {
        config.qwen_defaults();
        Self(config)
    }
}

impl Architecture for Qwen2 {
    const FAMILY: &'static str = "Qwen2, Qwen2.5";
    const MODEL_TYPES: &'static [&'static str] = &["qwen2"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.0.check().and_then(|()| self.0.check_qwen_window())
    }

    fn sliding_window(&self, index: usize) -> Option<usize> {
        self.0.qwen_window(index)
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let sliding_window = self.sliding_window(index);
        let base = SelfAttentionConfig::new(&self.0);
        let attention = SelfAttentionConfig { sliding_window, qkv_bias: true, o_bias: false, ..base };
        DenseLayer::new(&self.0, &attention, device)
    }
}
