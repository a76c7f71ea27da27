//! Python's `json.dumps`.

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Error, Value};

use super::dialect::failure;
use super::python::{MAX_DEPTH, float};

/// The filter `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(value: Value, arguments: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let (ensure_ascii, indent, separators, sort_keys, kwargs): (_, _, _, _, Kwargs) =
        from_args(&arguments.into_values())?;
    let argument = |given: Option<Value>, name| match given {
        Some(value) => Ok(Some(value)),
        None => kwargs.get::<Option<Value>>(name),
    };
    let ensure_ascii = argument(ensure_ascii, "ensure_ascii")?.is_some_and(|value| value.is_true());
    let indent = match argument(indent, "indent")?.filter(|value| !value.is_none()) {
        None => None,
        Some(value) => Some(match value.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(i64::try_from(value)?.clamp(0, 1000) as usize),
        }),
    };
    let separators = match argument(separators, "separators")?.filter(|value| !value.is_none()) {
        None => [if indent.is_some() { "," } else { ", " }, ": "].map(str::to_owned),
        Some(pair) => [0, 1].map(|index| pair.get_item_by_index(index).unwrap_or_default().to_string()),
    };
    let sort_keys = argument(sort_keys, "sort_keys")?.is_some_and(|value| value.is_true());
    kwargs.assert_all_used()?;
    let mut dump = Dump { out: String::new(), ensure_ascii, indent, separators, sort_keys };
    dump.value(&value, 0)?;
    Ok(dump.out)
}

struct Dump {
    out: String,
    ensure_ascii: bool,
    indent: Option<String>,
    separators: [String; 2],
    sort_keys: bool,
}

impl Dump {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            _ if depth > MAX_DEPTH => Err(unserializable("a value nested too deeply")),
            ValueKind::String => {
                self.text(value.as_str().unwrap_or_default());
                Ok(())
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
                self.container('[', ']', items.iter().map(|item| (None, item)), depth)
            }
            ValueKind::Map => {
                let mut entries = vec![];
                for key in value.try_iter()?.checked() {
                    let key = key?;
                    entries.push((value.get_item(&key)?, key));
                }
                if self.sort_keys {
                    entries.sort_by(|a, b| a.1.cmp(&b.1));
                }
                self.container('{', '}', entries.iter().map(|(item, key)| (Some(key), item)), depth)
            }
            _ => {
                self.out.push_str(&scalar(value)?);
                Ok(())
            }
        }
    }

    fn container<'v>(
        &mut self,
        open: char,
        close: char,
        entries: impl Iterator<Item = (Option<&'v Value>, &'v Value)>,
        depth: usize,
    ) -> Result<(), Error> {
        self.out.push(open);
        let mut empty = true;
        for (key, item) in entries {
            if !empty {
                self.out.push_str(&self.separators[0]);
            }
            empty = false;
            self.line(depth + 1);
            if let Some(key) = key {
                match key.as_str() {
                    Some(key) => self.text(key),
                    None => self.text(&scalar(key)?),
                }
                self.out.push_str(&self.separators[1]);
            }
            self.value(item, depth + 1)?;
        }
        if !empty {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            (0..depth).for_each(|_| self.out.push_str(indent));
        }
    }

    fn text(&mut self, text: &str) {
        let quoted = serde_json::Value::from(text).to_string();
        for c in quoted.chars() {
            if self.ensure_ascii && !matches!(c, ' '..='~') {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| self.out.push_str(&format!("\\u{unit:04x}")));
            } else {
                self.out.push(c);
            }
        }
    }
}

fn scalar(value: &Value) -> Result<String, Error> {
    Ok(match value.kind() {
        ValueKind::None => "null".into(),
        ValueKind::Bool => if value.is_true() { "true" } else { "false" }.into(),
        ValueKind::Number if value.is_integer() => value.to_string(),
        ValueKind::Number => match f64::try_from(value.clone())? {
            number if number.is_finite() => float(number),
            number if number.is_nan() => "NaN".into(),
            number => if number > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        },
        kind => return Err(unserializable(&format!("a value of type {kind}"))),
    })
}

fn unserializable(what: &str) -> Error {
    failure(format!("tojson: {what} cannot be written as JSON"))
}
