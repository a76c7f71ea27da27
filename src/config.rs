use std::path::Path;

use burn::tensor::DType;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::run_dtype::RunDtype;

/// The parts of a `config.json` that concern the engine and not the architecture.
pub(crate) struct Config(Value);

impl Config {
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self> {
        let config: Value = serde_json::from_str(text)
            .map_err(|error| Error::Json { path: path.to_owned(), reason: error.to_string() })?;
        let config = Self(config);
        if let Some(quantization) = config.both("quantization_config").next() {
            let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("unknown");
            let reason =
                format!("quantization_config asks for `{method}`, expected none; use a checkpoint in F32, F16 or BF16");
            return Err(Error::Unsupported { path: path.to_owned(), reason });
        }
        Ok(config)
    }

    /// The whole file.
    pub(crate) fn json(&self) -> &Value {
        &self.0
    }

    /// The values of a field on the top level and in `text_config`.
    fn both(&self, field: &str) -> impl Iterator<Item = &Value> {
        let nested = self.0.get("text_config").and_then(|text| text.get(field));
        [self.0.get(field), nested].into_iter().flatten().filter(|value| !value.is_null())
    }

    /// Whether either level ties the head to the embedding; `None` when neither says.
    pub(crate) fn tied(&self) -> Option<bool> {
        self.both("tie_word_embeddings").filter_map(Value::as_bool).reduce(|a, b| a || b)
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
