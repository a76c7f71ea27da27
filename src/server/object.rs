use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::failure::Failure;

/// An object of a request, whose fields are read one by one; a field that is null is as good as absent.
#[derive(Debug)]
pub(super) struct Object {
    fields: Map<String, Value>,
    /// Where it stands in the request; empty for all of it.
    path: String,
}

/// Characters of a value that an error shows.
const SHOWN: usize = 60;

impl Object {
    /// A value that has to be an object.
    pub(super) fn new(value: Value, path: impl Into<String>) -> Result<Self, Failure> {
        let path = path.into();
        match value {
            Value::Object(fields) => Ok(Self { fields, path }),
            other => Err(Failure::wrong(&path, Some(&other), "an object")),
        }
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// A field, if it is there.
    pub(super) fn get<T: DeserializeOwned>(&self, name: &str, expected: &str) -> Result<Option<T>, Failure> {
        let read = |value: &Value| T::deserialize(value).map_err(|_| self.wrong(name, expected));
        self.value(name).map(read).transpose()
    }

    /// A field that has to be there.
    pub(super) fn need<T: DeserializeOwned>(&self, name: &str, expected: &str) -> Result<T, Failure> {
        self.get(name, expected)?.ok_or_else(|| self.wrong(name, expected))
    }

    /// A field that is an object itself, if it is there.
    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, Failure> {
        self.value(name).map(|value| Self::new(value.clone(), self.path_of(name))).transpose()
    }

    /// A field that has to be there, and a list of objects.
    pub(super) fn objects(&self, name: &str) -> Result<Vec<Self>, Failure> {
        let list: Vec<Value> = self.need(name, "a list of objects")?;
        let path = self.path_of(name);
        list.into_iter().enumerate().map(|(i, value)| Self::new(value, format!("{path}[{i}]"))).collect()
    }

    /// Says that a field is not what was expected.
    pub(super) fn wrong(&self, name: &str, expected: &str) -> Failure {
        Failure::wrong(&self.path_of(name), self.value(name), expected)
    }

    /// Refuses a field for a reason of its own.
    pub(super) fn refuse(&self, name: &str, message: impl Into<String>) -> Failure {
        Failure::invalid(&self.path_of(name), message)
    }

    pub(super) fn into_fields(self) -> Map<String, Value> {
        self.fields
    }

    fn path_of(&self, name: &str) -> String {
        match self.path.is_empty() {
            true => name.to_owned(),
            false => format!("{}.{name}", self.path),
        }
    }
}

/// A value as an error shows it.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
