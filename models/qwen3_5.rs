//! Qwen3.5 without experts, its text part: Qwen3-Next with an MLP in each layer and four matrices in each delta net.
//!
//! Reference: `transformers/models/qwen3_5/modeling_qwen3_5.py`.

use serde::Deserialize;

use crate::config::{DeltaConfig, With, dense};
use crate::layers::{MixedLayer, StateShape};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Names, WeightMap};

/// The `config.json` of a Qwen3.5, or its `text_config`.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<DeltaConfig>")]
pub struct Qwen35 {
    base: DecoderConfig,
    delta: DeltaConfig,
}

impl From<With<DeltaConfig>> for Qwen35 {
    fn from(With { mut base, own: delta }: With<DeltaConfig>) -> Self {
        DeltaConfig::fill_in(&mut base, 4);
        Self { base, delta }
    }
}

impl Architecture for Qwen35 {
    const FAMILY: &'static str = "Qwen3.5 (text)";
    const MODEL_TYPES: &'static [&'static str] = &["qwen3_5_text"];
    type Layer<B: Backend> = MixedLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        self.delta.check(&self.base)
    }

    fn state(&self, index: usize) -> Option<StateShape> {
        self.delta.state(&self.base, index)
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MixedLayer<B> {
        self.delta.layer(&self.base, index, false, dense(&self.base, device), device)
    }

    fn names(&self) -> Names {
        DeltaConfig::names()
    }

    fn weight_map(&self) -> WeightMap {
        DeltaConfig::weight_map()
    }
}
