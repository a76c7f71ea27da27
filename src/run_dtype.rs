use std::str::FromStr;

use crate::error::{Error, Result};

/// The dtype of hidden states and KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunDtype {
    /// What `config.json` says (`dtype` or `torch_dtype`), else what the embedding is stored in; f32 where the
    /// backend has neither.
    #[default]
    Auto,
    /// 32-bit floats.
    Float32,
    /// 16-bit floats with the exponent of 32-bit ones.
    Bfloat16,
    /// IEEE 16-bit floats.
    Float16,
}

impl FromStr for RunDtype {
    type Err = Error;

    /// Reads the names of config.json, and their short forms.
    fn from_str(name: &str) -> Result<Self> {
        match name.trim_start_matches("torch.") {
            "auto" => Ok(Self::Auto),
            "float32" | "f32" | "float" => Ok(Self::Float32),
            "bfloat16" | "bf16" => Ok(Self::Bfloat16),
            "float16" | "f16" | "half" => Ok(Self::Float16),
            other => Err(Error::Name {
                what: "dtype",
                found: other.to_owned(),
                expected: "auto, float32, bfloat16 or float16".to_owned(),
            }),
        }
    }
}
