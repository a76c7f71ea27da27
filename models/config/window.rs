use super::{ConfigError, DecoderConfig, unsupported};

/// How `layer_types` calls a layer with a window.
const SLIDING: &str = "sliding_attention";

impl DecoderConfig {
    /// Gives every layer a window but each `pattern`-th, where `layer_types` is silent.
    pub(crate) fn window_pattern(&mut self, pattern: usize) {
        let slides = |index: usize| pattern == 0 || !(index + 1).is_multiple_of(pattern);
        let kind = |index| if slides(index) { SLIDING } else { "full_attention" }.to_owned();
        let layers = self.num_hidden_layers.min(super::check::MOST_LAYERS);
        self.layer_types.get_or_insert_with(|| (0..layers).map(kind).collect());
    }

    /// Whether a layer of this kind has a window.
    pub(crate) fn slides(kind: &str) -> bool {
        kind == SLIDING
    }

    /// The window of layer `index`, where `layer_types` names one.
    pub(crate) fn typed_window(&self, index: usize) -> Option<usize> {
        let kind = self.layer_types.as_ref().and_then(|kinds| kinds.get(index));
        self.sliding_window.flatten().filter(|_| kind.is_some_and(|kind| kind == SLIDING))
    }

    /// Refuses a `layer_types` that asks for a window where there is none.
    pub(crate) fn check_typed_windows(&self) -> Result<(), ConfigError> {
        let wants = self.layer_types.iter().flatten().any(|kind| kind == SLIDING);
        match wants && self.sliding_window.flatten().is_none() {
            true => Err(unsupported("sliding_window", "null", "a number, since layer_types names sliding_attention")),
            false => Ok(()),
        }
    }

    /// What Qwen's configs mean by silence, and that its MLPs have no biases.
    pub(crate) fn qwen_defaults(&mut self) {
        self.num_key_value_heads.get_or_insert(Some(32));
        self.sliding_window.get_or_insert(Some(4096));
        self.max_position_embeddings.get_or_insert(32_768);
        self.mlp_bias = false;
    }

    /// The window of layer `index` by Qwen's rule: only with `use_sliding_window`, and then where `layer_types` says
    /// so, or from layer `max_window_layers` on.
    pub(crate) fn qwen_window(&self, index: usize) -> Option<usize> {
        let window = self.sliding_window.flatten().filter(|_| self.use_sliding_window == Some(true))?;
        let sliding = match &self.layer_types {
            Some(kinds) => kinds[index] == SLIDING,
            None => index >= self.max_window_layers.unwrap_or(28),
        };
        sliding.then_some(window)
    }

    /// Refuses a `layer_types` that asks for a window which the config has switched off.
    pub(crate) fn check_qwen_window(&self) -> Result<(), ConfigError> {
        let wants = self.layer_types.iter().flatten().any(|kind| kind == SLIDING);
        let has = self.sliding_window.flatten().is_some() && self.use_sliding_window == Some(true);
        match wants && !has {
            true => {
                let expected = "a window, with use_sliding_window, since layer_types names sliding_attention";
                Err(unsupported("sliding_window", "switched off", expected))
            }
            false => Ok(()),
        }
    }
}
