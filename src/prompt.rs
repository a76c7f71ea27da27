use crate::chat::{ChatTemplate, Conversation};
use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// What a model goes on from.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// Plain text; the tokenizer adds what belongs at its beginning.
    Text(String),
    /// A conversation, rendered by the checkpoint's chat template.
    Chat(Box<Conversation>),
    /// Token ids, taken as they are.
    Tokens(Vec<u32>),
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Conversation> for Prompt {
    fn from(conversation: Conversation) -> Self {
        Self::Chat(Box::new(conversation))
    }
}

impl From<Vec<u32>> for Prompt {
    fn from(tokens: Vec<u32>) -> Self {
        Self::Tokens(tokens)
    }
}

impl Prompt {
    /// The ids that the model reads.
    pub(crate) fn encode<'a>(
        self,
        tokenizer: impl FnOnce() -> Result<&'a Tokenizer>,
        template: impl FnOnce() -> Result<&'a ChatTemplate>,
    ) -> Result<Vec<u32>> {
        match self {
            Self::Tokens(tokens) => Ok(tokens),
            Self::Text(text) => tokenizer()?.encode(&text, true),
            Self::Chat(conversation) => {
                let text = template()?.render(&conversation)?;
                // The template has written the special tokens; the tokenizer would write BOS a second time.
                tokenizer()?.encode(&text, false)
            }
        }
    }
}
