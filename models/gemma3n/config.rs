use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::config::{MOST_LAYERS, part, unsupported};
use crate::{ConfigError, DecoderConfig};

/// A config whose `intermediate_size` may be a list, a number for each layer.
#[derive(Debug, Clone)]
pub(super) struct Gemma3nConfig {
    pub(super) base: DecoderConfig,
    pub(super) own: Gemma3nFields,
}

/// Fields that other families do not have.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Gemma3nFields {
    /// Layer by layer; filled in.
    #[serde(skip)]
    intermediate_sizes: Vec<usize>,
    /// Layer by layer, the part of an MLP's gate that does not count; filled in.
    activation_sparsity_pattern: Option<Vec<f64>>,
    pub(super) hidden_size_per_layer_input: Option<usize>,
    pub(super) vocab_size_per_layer_input: Option<usize>,
    pub(super) num_kv_shared_layers: Option<usize>,
    pub(super) altup_num_inputs: Option<usize>,
    pub(super) altup_active_idx: Option<usize>,
    pub(super) altup_correct_scale: Option<bool>,
    pub(super) laurel_rank: Option<usize>,
}

impl<'de> Deserialize<'de> for Gemma3nConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Widths {
            intermediate_size: Vec<usize>,
        }
        let mut config = serde_json::Value::deserialize(deserializer)?;
        let mut widths = Vec::new();
        if config.get("intermediate_size").is_some_and(serde_json::Value::is_array) {
            widths = part::<Widths, D::Error>(&config)?.intermediate_size;
            let widest = widths.iter().max().ok_or_else(|| {
                let reason = "an empty list, expected a number for each layer".to_owned();
                D::Error::custom(ConfigError::Field { field: "intermediate_size".to_owned(), reason })
            })?;
            config["intermediate_size"] = (*widest).into();
        }
        let own = Gemma3nFields { intermediate_sizes: widths, ..part(&config)? };
        Ok(Self { base: part(&config)?, own })
    }
}

impl Gemma3nFields {
    /// What lists say where the config has none.
    pub(super) fn fill_in(&mut self, layers: usize, intermediate_size: usize) {
        let layers = layers.min(MOST_LAYERS);
        if self.intermediate_sizes.is_empty() {
            self.intermediate_sizes = vec![intermediate_size; layers];
        }
        let sparse = if layers > 10 { 10 } else { 0 };
        let sparsity = |index| if index < sparse { 0.95 } else { 0.0 };
        self.activation_sparsity_pattern.get_or_insert_with(|| (0..layers).map(sparsity).collect());
    }

    /// The width of the MLP of layer `index`, and the part of its gate that does not count.
    pub(super) fn mlp(&self, index: usize) -> (usize, f64) {
        let sparsity = self.activation_sparsity_pattern.as_ref().and_then(|pattern| pattern.get(index));
        (self.intermediate_sizes[index], sparsity.copied().unwrap_or(0.0))
    }

    /// Refuses sizes that are nothing or too much, and lists that do not fit `layers` layers.
    pub(super) fn check(&self, layers: usize) -> Result<(), ConfigError> {
        let pattern = self.activation_sparsity_pattern.as_deref().unwrap_or_default();
        let lists =
            [("intermediate_size", self.intermediate_sizes.len()), ("activation_sparsity_pattern", pattern.len())];
        if let Some((field, len)) = lists.into_iter().find(|(_, len)| *len != layers) {
            return Err(unsupported(
                field,
                format!("of length {len}"),
                format!("one entry for each of {layers} layers"),
            ));
        }
        if let Some(part) = pattern.iter().find(|part| !(0.0..1.0).contains(*part)) {
            return Err(unsupported("activation_sparsity_pattern", part, "parts from 0 to less than 1"));
        }
        let streams = self.altup_num_inputs.unwrap_or(4);
        let sized = [
            ("intermediate_size", self.intermediate_sizes.iter().copied().min().unwrap_or(0), 1 << 30),
            ("hidden_size_per_layer_input", self.hidden_size_per_layer_input.unwrap_or(256), 1 << 20),
            ("vocab_size_per_layer_input", self.vocab_size_per_layer_input.unwrap_or(262_144), 1 << 30),
            ("laurel_rank", self.laurel_rank.unwrap_or(64), 1 << 20),
            ("altup_num_inputs", streams, 64),
        ];
        if let Some((field, value, most)) = sized.into_iter().find(|(_, value, most)| *value == 0 || value > most) {
            return Err(unsupported(field, value, format!("a positive number up to {most}")));
        }
        if self.num_kv_shared_layers.unwrap_or(15) >= layers && self.num_kv_shared_layers != Some(0) {
            let expected = format!("less than num_hidden_layers = {layers}");
            return Err(unsupported("num_kv_shared_layers", self.num_kv_shared_layers.unwrap_or(15), expected));
        }
        match self.altup_active_idx.filter(|index| *index >= streams) {
            Some(index) => {
                Err(unsupported("altup_active_idx", index, format!("less than altup_num_inputs = {streams}")))
            }
            None => Ok(()),
        }
    }
}
