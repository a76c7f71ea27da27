use std::path::Path;

use burn::tensor::DType;
use leveret_models::weight::Format;
use serde_json::Value;

use crate::error::{AtPath, Error, Result};
use crate::io::read_text;
use crate::quantization_config;
use crate::run_dtype::RunDtype;

/// The parts of a `config.json` that concern the engine and not the architecture.
pub(crate) struct Config {
    json: Value,
    format: Option<Format>,
}

/// Python's word for an infinite number, which its JSON has and no other.
const INFINITY: &str = "Infinity";

/// The text of a `config.json`; numbers that are infinite there are the largest that there are.
pub(crate) fn read(path: &Path) -> Result<String> {
    let text = read_text(path).at(path)?;
    if !text.contains(INFINITY) {
        return Ok(text);
    }
    let (mut finite, mut rest, mut quoted) = (String::with_capacity(text.len()), text.as_str(), false);
    while let Some(letter) = rest.chars().next() {
        let (found, put) = match letter {
            '\\' if quoted => (rest.chars().take(2).map(char::len_utf8).sum(), None),
            'I' if !quoted && rest.starts_with(INFINITY) => (INFINITY.len(), Some(format!("{:e}", f64::MAX))),
            _ => (letter.len_utf8(), None),
        };
        quoted ^= letter == '"';
        let (taken, left) = rest.split_at(found);
        finite.push_str(put.as_deref().unwrap_or(taken));
        rest = left;
    }
    Ok(finite)
}

impl Config {
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text)
            .map_err(|error| Error::Json { path: path.to_owned(), reason: error.to_string() })?;
        let mut config = Self { json, format: None };
        let format = config.both("quantization_config").next().map(quantization_config::read).transpose();
        config.format = format.map_err(|reason| {
            let reason = format!("quantization_config {reason}");
            Error::Unsupported { path: path.to_owned(), reason }
        })?;
        Ok(config)
    }

    /// The whole file.
    pub(crate) fn json(&self) -> &Value {
        &self.json
    }

    /// The format that linear layers are packed in, if they are.
    pub(crate) fn format(&self) -> Option<Format> {
        self.format
    }

    /// The values of a field on the top level and in `text_config`.
    fn both(&self, field: &str) -> impl Iterator<Item = &Value> {
        let nested = self.json.get("text_config").and_then(|text| text.get(field));
        [self.json.get(field), nested].into_iter().flatten().filter(|value| !value.is_null())
    }

    /// Whether either level ties the head to the embedding; `None` when neither says.
    pub(crate) fn tied(&self, path: &Path) -> Result<Option<bool>> {
        let read = |value: &Value| {
            let reason = || format!("tie_word_embeddings is {value}, expected true or false");
            value.as_bool().ok_or_else(|| Error::Unsupported { path: path.to_owned(), reason: reason() })
        };
        let levels: Vec<_> = self.both("tie_word_embeddings").map(read).collect::<Result<_>>()?;
        Ok(levels.into_iter().reduce(|a, b| a || b))
    }

    pub(crate) fn dtype_name(&self) -> Option<&Value> {
        self.both("dtype").chain(self.both("torch_dtype")).next()
    }

    pub(crate) fn dtype(&self, path: &Path) -> Result<Option<DType>> {
        let Some(value) = self.dtype_name() else { return Ok(None) };
        let unsupported = || Error::Unsupported {
            path: path.to_owned(),
            reason: format!("dtype is {value}, expected float32, bfloat16 or float16; pass --dtype"),
        };
        match value.as_str().and_then(|name| name.parse().ok()) {
            Some(RunDtype::Float32) => Ok(Some(DType::F32)),
            Some(RunDtype::Bfloat16) => Ok(Some(DType::BF16)),
            Some(RunDtype::Float16) => Ok(Some(DType::F16)),
            Some(RunDtype::Auto) => Ok(None),
            None => Err(unsupported()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinite_numbers_are_read_and_words_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"a": [0.0, Infinity], "b": "\"Infinity", "c": -Infinity}"#).unwrap();
        let json: Value = serde_json::from_str(&read(file.path()).unwrap()).unwrap();
        assert_eq!((&json["a"][1], &json["c"]), (&f64::MAX.into(), &f64::MIN.into()));
        assert_eq!(json["b"], "\"Infinity");
    }
}
