use super::{ConfigError, DecoderConfig, unsupported};

/// The layers that read the keys and values of another: the last ones, each from the last of its kind before them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KvSharing {
    /// The first of them.
    first: usize,
    /// Whom those with a window read from, and those without.
    from: [Option<usize>; 2],
}

impl KvSharing {
    /// The last `num_kv_shared_layers` layers of a config whose `layer_types` are filled in.
    pub(crate) fn new(config: &DecoderConfig, num_kv_shared_layers: usize) -> Self {
        let first = config.num_hidden_layers.saturating_sub(num_kv_shared_layers);
        let kinds = config.layer_types.as_deref().unwrap_or_default();
        let before = &kinds[..first.min(kinds.len())];
        let last = |windowed: bool| before.iter().rposition(|kind| DecoderConfig::slides(kind) == windowed);
        Self { first, from: [last(true), last(false)] }
    }

    /// Whether layer `index` has no keys and values of its own.
    pub(crate) fn shares(&self, index: usize) -> bool {
        index >= self.first
    }

    /// The layer whose keys and values layer `index` reads.
    pub(crate) fn layer(&self, index: usize, windowed: bool) -> usize {
        let from = self.from[usize::from(!windowed)];
        from.filter(|_| self.shares(index)).unwrap_or(index)
    }

    /// Refuses layers that have nobody to read from.
    pub(crate) fn check(&self, config: &DecoderConfig) -> Result<(), ConfigError> {
        let kinds = config.layer_types.iter().flatten().skip(self.first);
        let from = |kind: &String| self.from[usize::from(!DecoderConfig::slides(kind))];
        match kinds.into_iter().find(|kind| from(kind).is_none()) {
            Some(kind) => {
                let shared = config.num_hidden_layers - self.first;
                let expected = format!("so many that a layer of {kind} comes before them");
                Err(unsupported("num_kv_shared_layers", shared, expected))
            }
            None => Ok(()),
        }
    }
}
