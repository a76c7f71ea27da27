//! What a user can feed in wrongly gives one line that names file, tensor, expected and found.

mod config;
mod running;
mod weights;

use std::fs;
use std::path::Path;

use burn::backend::Flex;
use leveret::Model;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{copy_of, fixture};

/// The error of loading a checkpoint.
pub fn load_error(dir: &Path) -> String {
    line(Model::<Flex>::from_pretrained(dir).expect_err("the checkpoint is spoilt"))
}

pub fn line(error: leveret::Error) -> String {
    let text = error.to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

pub fn assert_says(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "`{part}` is not in: {text}"));
}

/// Changes one field of a copy's config.json; `null` takes it out.
pub fn with_config(name: &str, field: &str, value: Value) -> TempDir {
    let dir = copy_of(&fixture(name));
    let path = dir.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    match value {
        Value::Null => drop(config.as_object_mut().unwrap().remove(field)),
        value => config[field] = value,
    }
    fs::write(&path, config.to_string()).unwrap();
    dir
}
