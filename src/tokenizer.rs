//! Text ↔ token ids, by the checkpoint's `tokenizer.json`.

use std::path::{Path, PathBuf};

use tokenizers::tokenizer::DecodeStream;
use tokenizers::{DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};

use crate::error::{AtPath, Error, Result};
use crate::io::read_small;

/// The tokenizer of a checkpoint.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
}

impl Tokenizer {
    /// Reads `tokenizer.json` in `dir`; `None` when there is none.
    pub fn from_dir(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("tokenizer.json");
        if !path.exists() {
            return Ok(None);
        }
        let broken = |error: tokenizers::Error| Error::Tokenizer { path: path.clone(), reason: error.to_string() };
        let mut inner = tokenizers::Tokenizer::from_bytes(read_small(&path).at(&path)?).map_err(broken)?;
        // What training left behind would cut prompts short or fill them up.
        inner.with_truncation(None).map_err(broken)?.with_padding(None);
        Ok(Some(Self { inner, path }))
    }

    /// The ids of `text`; with `special`, also those that the tokenizer adds, such as BOS.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = self.inner.encode(text, special).map_err(|error| self.error(&error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// What `tokenizer.json` says.
    #[cfg(feature = "json_schema")]
    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        let bytes = read_small(&self.path).at(&self.path)?;
        let reason = |error: serde_json::Error| Error::Json { path: self.path.clone(), reason: error.to_string() };
        serde_json::from_slice(&bytes).map_err(reason)
    }

    /// The text of `ids`, without special tokens.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(|error| self.error(&error))
    }

    /// The text of one token, also of a special one.
    #[cfg(feature = "server")]
    pub(crate) fn word(&self, id: u32) -> Result<String> {
        self.inner.decode(&[id], false).map_err(|error| self.error(&error))
    }

    /// A decoder of what follows `prompt` that takes one id at a time and never cuts a character in two.
    pub(crate) fn detokenizer(&self, prompt: &[u32]) -> Result<Detokenizer<'_>> {
        let stream = self.inner.decode_stream(true);
        let mut this = Detokenizer { tokenizer: self, stream, ids: Vec::new(), given: 0 };
        // Some tokenizers drop a space at the beginning of a text: the reply is not one, so the prompt's end goes first.
        for id in &prompt[prompt.len().saturating_sub(TAIL)..] {
            this.push(*id)?;
        }
        Ok(this)
    }

    fn error(&self, error: &tokenizers::Error) -> Error {
        Error::Tokenizer { path: self.path.clone(), reason: error.to_string() }
    }
}

/// Tokens of the prompt that decoding starts with.
const TAIL: usize = 8;

/// Turns ids into text as they come.
pub(crate) struct Detokenizer<'a> {
    tokenizer: &'a Tokenizer,
    stream:
        DecodeStream<'a, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>,
    ids: Vec<u32>,
    /// Bytes of text given out so far.
    given: usize,
}

impl Detokenizer<'_> {
    /// The text that `id` completes; empty while a character is unfinished.
    pub(crate) fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let text = self.stream.step(id).map_err(|error| self.tokenizer.error(&error))?.unwrap_or_default();
        self.given += text.len();
        Ok(text)
    }

    /// What is left at the end: an unfinished character, as the replacement sign.
    pub(crate) fn finish(&mut self) -> Result<String> {
        let all = self.tokenizer.decode(&self.ids)?;
        Ok(all.get(self.given..).unwrap_or_default().to_owned())
    }
}
