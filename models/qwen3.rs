//! Qwen3: Llama with an RMSNorm on every q and k head; layers may see a sliding window.
//!
//! Reference: `transformers/models/qwen3/modeling_qwen3.py`.

use serde::Deserialize;

use crate::layers::{Head, PreNormLayer, RopeParameters, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Dims};

/// The `config.json` of a Qwen3.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Qwen3(DecoderConfig);

impl Architecture for Qwen3 {
    const FAMILY: &'static str = "Qwen3";
    const MODEL_TYPES: &'static [&'static str] = &["qwen3"];
    type Layer<B: Backend> = PreNormLayer<B>;

    fn check(&self) -> Result<(), ConfigError> {
        self.0.check()
    }

    fn dims(&self) -> Dims {
        self.0.dims()
    }

    fn rope(&self) -> RopeParameters {
        self.0.rope()
    }

    fn sliding_window(&self, index: usize) -> Option<usize> {
        self.0.qwen_window(index)
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> PreNormLayer<B> {
        let sliding_window = self.sliding_window(index);
        let qk_norm_eps = Some(self.0.rms_norm_eps);
        let attention = SelfAttentionConfig { sliding_window, qk_norm_eps, ..SelfAttentionConfig::new(&self.0) };
        PreNormLayer::new(&self.0, &attention, device)
    }

    fn head<B: Backend>(&self, rows: usize, norm: bool, device: &B::Device) -> Head<B> {
        self.0.head(rows, norm, device)
    }
}
