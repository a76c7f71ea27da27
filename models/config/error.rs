/// Why a `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not JSON, or a field that is missing or of the wrong type.
    #[error("{}{reason}", if field == "." { String::new() } else { format!("`{field}`: ") })]
    Field {
        /// Path of the field, `.` for the whole file.
        field: String,
        /// What the parser says.
        reason: String,
    },
    /// A `model_type` that no architecture serves.
    #[error(
        "unknown model_type `{found}`{}; supported are {}",
        nearest.map(|n| format!(" (nearest: `{n}`)")).unwrap_or_default(), supported.join(", ")
    )]
    UnknownModelType {
        /// The value of `model_type`.
        found: String,
        /// The supported name that looks most like it.
        nearest: Option<&'static str>,
        /// All supported names.
        supported: Vec<&'static str>,
    },
    /// A value that is well-formed and cannot be honoured.
    #[error("`{field}` is {found}, expected {expected}")]
    Unsupported {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        found: String,
        /// What can be honoured.
        expected: String,
    },
}

/// A value that is well-formed and cannot be honoured.
pub(crate) fn unsupported(field: &'static str, found: impl ToString, expected: impl Into<String>) -> ConfigError {
    ConfigError::Unsupported { field, found: found.to_string(), expected: expected.into() }
}
