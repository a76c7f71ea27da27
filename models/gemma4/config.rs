use std::collections::BTreeMap;

use serde::Deserialize;

use crate::config::unsupported;
use crate::layers::Routing;
use crate::{ConfigError, DecoderConfig};

/// Fields that other families do not have.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Gemma4Fields {
    pub(super) global_head_dim: Option<usize>,
    pub(super) num_global_key_value_heads: Option<usize>,
    pub(super) attention_k_eq_v: Option<bool>,
    /// What layers without a window have otherwise than the others, by their number: transformers 5's way to say it.
    per_layer_config: Option<BTreeMap<String, LayerConfig>>,
    pub(super) hidden_size_per_layer_input: Option<usize>,
    pub(super) vocab_size_per_layer_input: Option<usize>,
    pub(super) num_kv_shared_layers: Option<usize>,
    pub(super) use_double_wide_mlp: Option<bool>,
    enable_moe_block: Option<bool>,
    pub(super) num_experts: Option<usize>,
    pub(super) top_k_experts: Option<usize>,
    pub(super) moe_intermediate_size: Option<usize>,
}

/// What a layer has otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct LayerConfig {
    pub(super) head_dim: Option<usize>,
    pub(super) num_key_value_heads: Option<usize>,
}

impl Gemma4Fields {
    pub(super) fn has_experts(&self) -> bool {
        self.enable_moe_block == Some(true)
    }

    /// What the layers without a window have otherwise, where the config says it layer by layer.
    pub(super) fn of_global_layers(&self) -> Option<&LayerConfig> {
        self.per_layer_config.as_ref().and_then(|layers| layers.values().next())
    }

    /// Refuses sizes that are nothing or too much, and layers that differ otherwise than by their window.
    pub(super) fn check(&self, config: &DecoderConfig) -> Result<(), ConfigError> {
        let most = 1 << 20;
        let sized = [
            ("hidden_size_per_layer_input", self.hidden_size_per_layer_input.filter(|width| *width != 0)),
            ("vocab_size_per_layer_input", self.vocab_size_per_layer_input),
            ("moe_intermediate_size", self.moe_intermediate_size.or(Some(0)).filter(|_| self.has_experts())),
        ];
        if let Some((field, value)) = sized
            .iter()
            .find_map(|(field, value)| value.filter(|value| *value == 0 || *value > most).map(|value| (*field, value)))
        {
            return Err(unsupported(field, value, "a positive number up to a million"));
        }
        if self.num_kv_shared_layers.is_some_and(|layers| layers > 0 && layers >= config.num_hidden_layers) {
            let expected = format!("less than num_hidden_layers = {}", config.num_hidden_layers);
            return Err(unsupported("num_kv_shared_layers", self.num_kv_shared_layers.unwrap_or(0), expected));
        }
        if let Some(layers) = &self.per_layer_config {
            let kinds = config.layer_types.as_deref().unwrap_or_default();
            let global = |index: usize| !DecoderConfig::slides(&kinds[index]);
            let named: Vec<_> =
                (0..kinds.len()).filter(|index| global(*index)).map(|index| index.to_string()).collect();
            let same = layers.values().all(|layer| Some(layer) == self.of_global_layers());
            if !same || layers.len() != named.len() || !named.iter().all(|index| layers.contains_key(index)) {
                let expected = "the same for each layer that sees everything, and none for the others";
                return Err(unsupported("per_layer_config", "given otherwise", expected));
            }
        }
        match self.has_experts() {
            true => Routing::softmax(self.top_k_experts.unwrap_or(0))
                .check(self.num_experts.unwrap_or(0), ["num_experts", "top_k_experts"]),
            false => Ok(()),
        }
    }
}
