//! SmolLM3: Llama in which one layer of four does not rotate.
//!
//! Reference: `transformers/models/smollm3/modeling_smollm3.py`.

use serde::Deserialize;

use crate::config::{MOST_LAYERS, unsupported};
use crate::layers::{DenseLayer, RopeParameters, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig};

/// The `config.json` of a SmolLM3.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct SmolLm3(DecoderConfig);

impl From<DecoderConfig> for SmolLm3 {
    fn from(mut config: DecoderConfig) -> Self {
        config.num_key_value_heads.get_or_insert(Some(4));
        config.max_position_embeddings.get_or_insert(32_768);
        config.rope_theta.get_or_insert(2_000_000.0);
        let interval = config.no_rope_layer_interval.unwrap_or(4).max(1);
        let layers = config.num_hidden_layers.min(MOST_LAYERS);
        let rotates = |index: usize| u8::from(!(index + 1).is_multiple_of(interval));
        config.no_rope_layers.get_or_insert_with(|| (0..layers).map(rotates).collect());
        Self(config)
    }
}

impl Architecture for SmolLm3 {
    const FAMILY: &'static str = "SmolLM3";
    const MODEL_TYPES: &'static [&'static str] = &["smollm3"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn check(&self) -> Result<(), ConfigError> {
        let (found, layers) = (self.0.no_rope_layers.as_ref().map_or(0, Vec::len), self.0.num_hidden_layers);
        self.0.check()?;
        match found == layers {
            true => Ok(()),
            false => {
                let expected = format!("one entry for each of {layers} layers");
                Err(unsupported("no_rope_layers", format!("of length {found}"), expected))
            }
        }
    }

    fn sliding_window(&self, index: usize) -> Option<usize> {
        let window = self.0.sliding_window.flatten().filter(|_| self.0.use_sliding_window == Some(true));
        // Where `layer_types` is silent, the layers that do not rotate have the window.
        let slides = match self.0.layer_types {
            Some(_) => self.0.typed_window(index).is_some(),
            None => !self.rotates(index),
        };
        window.filter(|_| slides)
    }

    fn layer_rope(&self, index: usize) -> RopeParameters {
        if self.rotates(index) { self.rope() } else { self.rope().none() }
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let attention =
            SelfAttentionConfig { sliding_window: self.sliding_window(index), ..SelfAttentionConfig::new(&self.0) };
        DenseLayer::new(&self.0, &attention, device)
    }
}

impl SmolLm3 {
    fn rotates(&self, index: usize) -> bool {
        self.0.no_rope_layers.as_ref().and_then(|layers| layers.get(index)).is_none_or(|rotates| *rotates != 0)
    }
}
