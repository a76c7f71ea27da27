//! What Python prints, and methods of its strings.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Error, State, Value};
use minijinja_contrib::pycompat;

use super::dialect::failure;

/// Values nested deeper are refused, as Python refuses them a little later.
pub(super) const MAX_DEPTH: usize = 500;

/// A value as Python's `str` has it.
pub(super) fn str(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Number | ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            let mut text = String::new();
            repr(value, &mut text, 0)?;
            Ok(text)
        }
        _ => Ok(value.to_string()),
    }
}

fn repr(value: &Value, text: &mut String, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(failure("cannot print a value nested that deeply"));
    }
    let mut first = true;
    let mut comma = |text: &mut String| {
        if !std::mem::take(&mut first) {
            text.push_str(", ")
        }
    };
    match value.kind() {
        ValueKind::Number if !value.is_integer() => text.push_str(&float(f64::try_from(value.clone())?)),
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            text.push(open);
            for item in value.try_iter()?.checked() {
                comma(text);
                repr(&item?, text, depth + 1)?;
            }
            if value.is_tuple() && value.len() == Some(1) {
                text.push(',');
            }
            text.push(close);
        }
        ValueKind::Map => {
            text.push('{');
            for key in value.try_iter()?.checked() {
                let key = key?;
                comma(text);
                repr(&key, text, depth + 1)?;
                text.push_str(": ");
                repr(&value.get_item(&key)?, text, depth + 1)?;
            }
            text.push('}');
        }
        ValueKind::Undefined => text.push_str("Undefined"),
        _ => format!("{value:?}").chars().for_each(|c| escape(c, text)),
    }
    Ok(())
}

/// Spells out what Python finds unprintable, such as a no-break space; minijinja did that with ASCII only.
fn escape(c: char, text: &mut String) {
    // Behind a letter, Rust takes a combining mark for printable, as Python does.
    if c.is_ascii() || format!("a{c}").escape_debug().eq(['a', c]) {
        return text.push(c);
    }
    text.push_str(&match c as u32 {
        code @ ..=0xff => format!("\\x{code:02x}"),
        code @ ..=0xffff => format!("\\u{code:04x}"),
        code => format!("\\U{code:08x}"),
    });
}

/// A float as Python prints it: Rust's shortest digits, with a sign and two digits in the exponent.
pub(super) fn float(number: f64) -> String {
    let text = format!("{number:?}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text.to_lowercase(),
    }
}

/// The methods of strings that [`pycompat`] lacks or answers differently, and its own.
pub(super) fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else { return pycompat::unknown_method_callback(state, value, name, args) };
    match name {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        "rsplit" => {
            let (separator, count): (&str, Option<usize>) = from_args(args)?;
            let mut parts: Vec<_> = match count {
                Some(count) => text.rsplitn(count.saturating_add(1), separator).collect(),
                None => text.rsplit(separator).collect(),
            };
            parts.reverse();
            Ok(parts.into_iter().map(Value::from).collect())
        }
        "splitlines" => {
            let (keep_ends,): (Option<bool>,) = from_args(args)?;
            Ok(split_lines(text, keep_ends.unwrap_or(false)).into_iter().map(Value::from).collect())
        }
        "title" => {
            let () = from_args(args)?;
            Ok(title(text).into())
        }
        _ => pycompat::unknown_method_callback(state, value, name, args),
    }
}

fn split_lines(mut text: &str, keep_ends: bool) -> Vec<&str> {
    let is_end = |c| matches!(c, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut lines = vec![];
    while !text.is_empty() {
        let length = text.find(is_end).unwrap_or(text.len());
        let end = if text[length..].starts_with("\r\n") {
            2
        } else {
            text[length..].chars().next().map_or(0, char::len_utf8)
        };
        lines.push(&text[..if keep_ends { length + end } else { length }]);
        text = &text[length + end..];
    }
    lines
}

/// Every letter large that follows none, the others small.
fn title(text: &str) -> String {
    let mut title = String::with_capacity(text.len());
    let mut within = false;
    for c in text.chars() {
        if within {
            title.extend(c.to_lowercase())
        } else {
            title.extend(c.to_uppercase())
        }
        within = c.is_lowercase() || c.is_uppercase();
    }
    title
}
