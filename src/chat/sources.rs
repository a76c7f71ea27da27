//! Where a checkpoint keeps its chat templates and its special tokens.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::io::read_small;

/// The tokens that transformers itself knows; a template may print others, whose names end alike.
const STANDARD_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The text of a template and the file that it stands in.
pub(super) struct Source {
    pub path: PathBuf,
    pub text: String,
}

/// The templates of a checkpoint directory, by name. `.jinja` files replace what `tokenizer_config.json` says.
pub(super) fn templates(dir: &Path) -> Result<BTreeMap<String, Source>> {
    let mut paths = vec![("default".to_owned(), dir.join("chat_template.jinja"))];
    let additional = dir.join("additional_chat_templates");
    if additional.is_dir() {
        let io = |error| Error::Io { path: additional.clone(), error };
        for entry in additional.read_dir().map_err(io)? {
            let path = entry.map_err(io)?.path();
            if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jinja")) {
                paths.push((name.to_owned(), path));
            }
        }
    }
    let mut templates = BTreeMap::new();
    for (name, path) in paths {
        if let Some(bytes) = read(&path)? {
            let text = String::from_utf8(bytes).map_err(|error| template_error(&path, error))?;
            templates.insert(name, Source { path, text });
        }
    }
    if templates.is_empty() { inline_templates(&dir.join("tokenizer_config.json")) } else { Ok(templates) }
}

/// The `chat_template` of a config: one text, or several under names.
fn inline_templates(path: &Path) -> Result<BTreeMap<String, Source>> {
    let config = read_object(path)?;
    let named: Option<Vec<_>> = match config.get("chat_template") {
        None | Some(Value::Null) => Some(vec![]),
        Some(text @ Value::String(_)) => Some(vec![("default", text)]),
        Some(Value::Object(named)) => Some(named.iter().map(|(name, text)| (name.as_str(), text)).collect()),
        Some(Value::Array(entries)) => {
            entries.iter().map(|entry| Some((entry.get("name")?.as_str()?, entry.get("template")?))).collect()
        }
        Some(_) => None,
    };
    let source = |(name, text): (&str, &Value)| {
        Some((name.to_owned(), Source { path: path.to_owned(), text: text.as_str()?.to_owned() }))
    };
    named
        .and_then(|named| named.into_iter().map(source).collect())
        .ok_or_else(|| template_error(path, "`chat_template` is neither a text nor a list of {name, template}"))
}

/// The special tokens of a checkpoint directory, by name. As in transformers, `special_tokens_map.json` overrides a
/// config too old to have `added_tokens_decoder`, and is not read otherwise.
pub(super) fn special_tokens(dir: &Path) -> Result<BTreeMap<String, String>> {
    let mut tokens = BTreeMap::new();
    for file in ["tokenizer_config.json", "special_tokens_map.json"] {
        let path = dir.join(file);
        let object = read_object(&path)?;
        collect_tokens(&path, &object, &mut tokens)?;
        if object.contains_key("added_tokens_decoder") {
            break;
        }
    }
    Ok(tokens)
}

fn collect_tokens(path: &Path, object: &Map<String, Value>, tokens: &mut BTreeMap<String, String>) -> Result<()> {
    let extra = ["extra_special_tokens", "model_specific_special_tokens"];
    let extra = extra.into_iter().filter_map(|key| object.get(key)?.as_object()).flatten();
    for (name, value) in object.iter().filter(|(name, _)| name.ends_with("_token")).chain(extra) {
        match value.as_str().or_else(|| value.get("content")?.as_str()) {
            Some(text) => drop(tokens.insert(name.clone(), text.to_owned())),
            None if value.is_null() => drop(tokens.remove(name)),
            None if STANDARD_TOKENS.contains(&name.as_str()) => {
                let reason = format!("`{name}` is neither a text nor an object with `content`");
                return Err(Error::Json { path: path.to_owned(), reason });
            }
            // A setting, such as `add_bos_token`.
            None => {}
        }
    }
    Ok(())
}

/// The object in a JSON file; an empty one when there is no such file.
fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let Some(bytes) = read(path)? else { return Ok(Map::new()) };
    serde_json::from_slice(&bytes).map_err(|error| Error::Json { path: path.to_owned(), reason: error.to_string() })
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match read_small(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::Io { path: path.to_owned(), error }),
    }
}

pub(super) fn template_error(path: &Path, reason: impl ToString) -> Error {
    Error::Template { path: path.to_owned(), reason: reason.to_string() }
}
