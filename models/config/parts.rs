use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};

use super::{ConfigError, DecoderConfig};
use crate::registry::in_jsons_words;

/// A `config.json` read as what all families have and what some have beside it.
#[derive(Debug, Clone)]
pub(crate) struct With<T> {
    pub(crate) base: DecoderConfig,
    pub(crate) own: T,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for With<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = serde_json::Value::deserialize(deserializer)?;
        Ok(Self { base: part(&config)?, own: part(&config)? })
    }
}

/// Two groups of fields that a config is read as.
#[derive(Debug, Clone)]
pub(crate) struct Both<T, U>(pub(crate) T, pub(crate) U);

impl<'de, T: DeserializeOwned, U: DeserializeOwned> Deserialize<'de> for Both<T, U> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(part(&config)?, part(&config)?))
    }
}

/// Reads some fields of a config; an error says which it is about.
pub(crate) fn part<T: DeserializeOwned, E: Error>(config: &serde_json::Value) -> Result<T, E> {
    serde_path_to_error::deserialize(config).map_err(|error| match error.path().to_string().as_str() {
        "." => E::custom(in_jsons_words(error.inner().to_string())),
        field => {
            let reason = in_jsons_words(error.inner().to_string());
            E::custom(ConfigError::Field { field: field.to_owned(), reason })
        }
    })
}
