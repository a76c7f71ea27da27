//! Qwen3: Llama with an RMSNorm on every q and k head; layers may see a sliding window.
//!
//! Reference: `transformers/models/qwen3/modeling_qwen3.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig};

/// The `config.json` of a Qwen3.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Qwen3(DecoderConfig);

impl From<DecoderConfig> for Qwen3 {
    fn from(mut config: DecoderConfig) -> Self {
        config.qwen_defaults();
        config.head_dim.get_or_insert(128);
        Self(config)
    }
}

impl Architecture for Qwen3 {
    const FAMILY: &'static str = "Qwen3";
    const MODEL_TYPES: &'static [&'static str] = &["qwen3"];
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
        let qk_norm_eps = Some(self.0.rms_norm_eps());
        let attention = SelfAttentionConfig { sliding_window, qk_norm_eps, ..SelfAttentionConfig::new(&self.0) };
        DenseLayer::new(&self.0, &attention, device)
    }
}
