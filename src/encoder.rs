use std::path::PathBuf;
use std::sync::Arc;

use crate::chat::ChatTemplate;
use crate::error::{Error, Result};
use crate::prompt::Prompt;
use crate::tokenizer::Tokenizer;

/// Makes token ids of prompts: a model's tokenizer and chat template, which threads may share.
#[derive(Debug, Clone)]
pub struct Encoder {
    pub(crate) dir: PathBuf,
    pub(crate) tokenizer: Option<Arc<Tokenizer>>,
    pub(crate) template: Option<Arc<ChatTemplate>>,
}

impl Encoder {
    /// The ids that the model reads.
    pub fn encode(&self, prompt: impl Into<Prompt>) -> Result<Vec<u32>> {
        prompt.into().encode(|| self.tokenizer(), || self.template())
    }

    /// The text of one token; empty where there is no tokenizer.
    pub fn text(&self, id: u32) -> String {
        self.tokenizer().and_then(|tokenizer| tokenizer.decode(&[id])).unwrap_or_default()
    }

    /// What a token is called that has no text of its own, such as the end of a sequence.
    #[cfg(feature = "server")]
    pub(crate) fn word(&self, id: u32) -> String {
        self.tokenizer().and_then(|tokenizer| tokenizer.word(id)).unwrap_or_default()
    }

    /// The tokenizer, or an error that says how to get one.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_deref().ok_or_else(|| Error::NoTokenizer { path: self.dir.clone() })
    }

    fn template(&self) -> Result<&ChatTemplate> {
        self.template.as_deref().ok_or_else(|| Error::NoTemplate { path: self.dir.clone() })
    }
}
