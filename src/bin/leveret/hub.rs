//! Models by their name on the Hugging Face hub.

use std::path::{Path, PathBuf};

use clap::Args;
use leveret::{Hub, HubToken};

use crate::bars::Bars;

/// How the hub is spoken to.
#[derive(Debug, Clone, Args)]
pub struct HubFlags {
    /// Token for models that not everybody may have [default: HF_TOKEN, or what `hf auth login` has kept].
    #[arg(long, value_name = "TOKEN", help_heading = "Hugging Face hub")]
    token: Option<HubToken>,
    /// Makes no request and takes what was downloaded before, as HF_HUB_OFFLINE=1 does.
    #[arg(long, help_heading = "Hugging Face hub")]
    offline: bool,
}

impl HubFlags {
    /// The hub of the environment and these flags; downloads are drawn.
    pub fn hub(&self) -> Hub {
        let bars = Bars::default();
        let hub = Hub::from_env().on_event(move |event| bars.show(event));
        let hub = if self.offline { hub.offline(true) } else { hub };
        match &self.token {
            Some(token) => hub.token(token.clone()),
            None => hub,
        }
    }

    /// The directory of a model, all of which is downloaded if need be.
    pub fn dir(&self, model: &Path) -> leveret::Result<PathBuf> {
        self.hub().dir(model)
    }
}
