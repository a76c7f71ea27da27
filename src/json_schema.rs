//! Replies that are JSON of a schema.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use llguidance::{Matcher, ParserFactory, token_bytes_from_tokenizer_json};
use serde_json::{Value, json};

use crate::constraint::Constraint;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// What constraints of one tokenizer share.
pub struct Grammars(ParserFactory);

/// Allows the tokens of a JSON document that a schema describes, and of nothing else.
pub struct JsonSchema(Matcher);

impl Grammars {
    /// Prepares constraints for a tokenizer, in a vocabulary of `vocab_size` with these tokens at the end of a reply.
    pub fn new(tokenizer: Arc<Tokenizer>, eos: &[u32], vocab_size: usize) -> Result<Self> {
        let json = tokenizer.json()?;
        let mut words = token_bytes_from_tokenizer_json(&json).map_err(|error| failed(&error))?;
        words.resize(vocab_size, Vec::new());
        let eos: Vec<u32> = eos.iter().copied().filter(|id| (*id as usize) < vocab_size).collect();
        let none =
            || Error::Constraint { reason: "the checkpoint names no end-of-sequence token that it has".to_owned() };
        let first = eos.first().copied().ok_or_else(none)?;
        let trie = TokTrie::from(&TokRxInfo::new(vocab_size as u32, first), &words).with_eos_tokens(&eos);
        // Where text is put before a text, what follows another is not tokenised as it would be alone.
        let canonical = json["decoder"]["type"] == "ByteLevel";
        let tokens: TokEnv = Arc::new(Tokens { trie, tokenizer, canonical });
        let capabilities = InferenceCapabilities { ff_tokens: canonical, ..InferenceCapabilities::default() };
        let mut factory = ParserFactory::new(&tokens, capabilities, &[]).map_err(|error| failed(&error))?;
        factory.quiet();
        Ok(Self(factory))
    }
}

impl JsonSchema {
    /// A constraint for one reply.
    pub fn new(grammars: &Grammars, schema: &Value) -> Result<Self> {
        let mut schema = schema.clone();
        if let Some(fields) = schema.as_object_mut() {
            // A model that would rather say something else fills any room for spaces without end.
            let spaces = json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
            fields.entry("x-guidance").or_insert(spaces);
        }
        let parser = grammars.0.create_parser(TopLevelGrammar::from_json_schema(schema));
        Ok(Self(Matcher::new(Ok(parser.map_err(|error| failed(&error))?))))
    }
}

impl Clone for JsonSchema {
    /// The same grammar, not compiled again, for another reply; the two go on apart.
    fn clone(&self) -> Self {
        Self(self.0.deep_clone())
    }
}

impl Constraint for JsonSchema {
    fn mask(&mut self, logits: &mut [f32]) -> Result<()> {
        let allowed = self.0.compute_mask_or_eos().map_err(|error| failed(&error))?;
        let forbidden =
            (0..).zip(logits).filter(|(id, _)| !((*id as usize) < allowed.len() && allowed.is_allowed(*id)));
        forbidden.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
        Ok(())
    }

    fn push(&mut self, id: u32) -> Result<Vec<u32>> {
        if self.0.is_stopped() {
            return Ok(Vec::new());
        }
        self.0.consume_token(id).map_err(|error| failed(&error))?;
        Ok(if self.0.is_stopped() { Vec::new() } else { self.0.consume_ff_tokens() })
    }
}

/// A tokenizer as grammars see it.
struct Tokens {
    trie: TokTrie,
    tokenizer: Arc<Tokenizer>,
    canonical: bool,
}

impl TokenizerEnv for Tokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        match self.canonical {
            true => self.trie.tokenize_with_greedy_fallback(bytes, |text| {
                self.tokenizer.encode(text, false).unwrap_or_else(|_| self.trie.greedy_tokenize(text.as_bytes()))
            }),
            false => self.trie.greedy_tokenize(bytes),
        }
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.canonical
    }
}

fn failed(error: &impl std::fmt::Display) -> Error {
    Error::Constraint { reason: error.to_string() }
}
