use std::io::Write;

use anyhow::Result;
use clap::Args;
use leveret::RepoId;

use crate::hub::HubFlags;

/// Downloads a model from the Hugging Face hub, and prints its directory.
///
/// It goes into the cache that Python's huggingface_hub uses: $HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub. Only
/// config, tokenizer, chat templates and safetensors files are taken. A download that was ended goes on where it stopped
/// when the command is given again.
#[derive(Debug, Args)]
pub struct Pull {
    /// Name on the hub, org/name or org/name@revision.
    model: RepoId,
    #[command(flatten)]
    hub: HubFlags,
}

impl Pull {
    pub fn run(self) -> Result<()> {
        let dir = self.hub.hub().pull(&self.model)?;
        Ok(writeln!(std::io::stdout(), "{}", dir.display())?)
    }
}
