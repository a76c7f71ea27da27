//! Mistral 7B, Small and Nemo: Llama whose layers all see a sliding window, where the config has one.
//!
//! Reference: `transformers/models/mistral/modeling_mistral.py`.

use serde::Deserialize;

use crate::layers::{Head, PreNormLayer, RopeParameters, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Dims};

/// The `config.json` of a Mistral.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Mistral(DecoderConfig);

impl Architecture for Mistral {
    const FAMILY: &'static str = "Mistral, Mistral Nemo";
    const MODEL_TYPES: &'static [&'static str] = &["mistral"];
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

    fn sliding_window(&self, _index: usize) -> Option<usize> {
        self.0.sliding_window
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> PreNormLayer<B> {
        let sliding_window = self.sliding_window(index);
        let attention = SelfAttentionConfig { sliding_window, ..SelfAttentionConfig::new(&self.0) };
        PreNormLayer::new(&self.0, &attention, device)
    }

    fn head<B: Backend>(&self, rows: usize, norm: bool, device: &B::Device) -> Head<B> {
        self.0.head(rows, norm, device)
    }
}
