use leveret_models::Backend;

use crate::error::{Error, Result};
use crate::generation_config::GenerationConfig;
use crate::model::Model;
use crate::options::GenerateOptions;

/// What a request has to keep to, known before it waits: a stream that has begun can no longer be refused with a status.
#[derive(Debug)]
pub(super) struct Limits {
    config: GenerationConfig,
    context: usize,
    vocab_size: usize,
}

impl Limits {
    pub(super) fn new<B: Backend>(model: &Model<B>, context: usize) -> Self {
        let dims = model.dims();
        let context = context.min(dims.max_positions);
        Self { config: model.generation_config().clone(), context, vocab_size: dims.vocab_size }
    }

    /// Positions of a sequence at most.
    pub(super) fn context(&self) -> usize {
        self.context
    }

    /// Refuses what could not join a batch.
    pub(super) fn check(&self, prompt: &[u32], options: &GenerateOptions) -> Result<()> {
        if prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        self.config.sampling(options).check()?;
        self.config.max_tokens(options, prompt.len(), self.context)?;
        match prompt.iter().find(|id| !self.knows(**id)) {
            Some(&id) => Err(Error::TokenId { id, vocab_size: self.vocab_size }),
            None => Ok(()),
        }
    }

    /// Whether the model has such a token.
    pub(super) fn knows(&self, id: u32) -> bool {
        (id as usize) < self.vocab_size
    }
}
