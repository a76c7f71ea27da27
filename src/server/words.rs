use std::borrow::Cow;

use llguidance::token_bytes_from_tokenizer_json;
use llguidance::toktrie::TokTrie;

use crate::encoder::Encoder;
use crate::tokenizer::Tokenizer;

/// What every token is made of, also where it is part of a character, or a sign that replies do not show.
pub(super) struct Words {
    /// Empty where the tokenizer has no bytes of its own.
    table: Vec<Vec<u8>>,
    encoder: Encoder,
}

impl Words {
    pub(super) fn new(encoder: &Encoder) -> Self {
        let json = encoder.tokenizer().and_then(Tokenizer::json).ok();
        let table = json.and_then(|json| token_bytes_from_tokenizer_json(&json).ok()).unwrap_or_default();
        Self { table, encoder: encoder.clone() }
    }

    /// The bytes of a token.
    pub(super) fn bytes(&self, id: u32) -> Cow<'_, [u8]> {
        match self.table.get(id as usize).map(Vec::as_slice) {
            Some([TokTrie::SPECIAL_TOKEN_MARKER, name @ ..]) if !name.is_empty() => Cow::Borrowed(name),
            Some(bytes) if !bytes.is_empty() => Cow::Borrowed(bytes),
            _ => Cow::Owned(self.encoder.word(id).into_bytes()),
        }
    }

    /// The text of a token; where that is no whole character its bytes, as OpenAI writes them.
    pub(super) fn text(&self, id: u32) -> String {
        let bytes = self.bytes(id);
        match std::str::from_utf8(&bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().fold("bytes:".to_owned(), |text, byte| text + &format!("\\x{byte:02x}")),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Words of tokens without a tokenizer.
    pub fn words(table: &[&[u8]]) -> Words {
        let encoder = Encoder { dir: "nowhere".into(), tokenizer: None, template: None };
        Words { table: table.iter().map(|bytes| bytes.to_vec()).collect(), encoder }
    }

    #[test]
    fn every_token_has_bytes_and_a_text() {
        let words = words(&[b"\xff<|end|>", " é".as_bytes(), b"\xe2\x82", b"\xff", b""]);
        let texts = (0..6).map(|id| words.text(id));
        assert_eq!(texts.collect::<Vec<_>>(), ["<|end|>", " é", "bytes:\\xe2\\x82", "bytes:\\xff", "", ""]);
        assert_eq!((&*words.bytes(0), &*words.bytes(3)), (b"<|end|>".as_slice(), b"\xff".as_slice()));
    }
}
