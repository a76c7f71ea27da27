//! The Jinja of transformers, where it differs from minijinja's.

use jiff::Zoned;
use jiff::fmt::strtime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value, tests};

use super::{json, python};

/// Instructions that a rendering may take; conversations of a thousand messages take a hundredth.
const FUEL: u64 = 10_000_000;

/// The environment in which chat templates are rendered.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the delimiters are the usual ones"));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(|out, _, value| Ok(out.write_str(&python::str(value)?)?));
    environment.set_unknown_method_callback(python::method);
    minijinja_contrib::add_to_environment(&mut environment);
    // Errors then name the variable that is undefined.
    environment.set_debug(true);
    // Templates come from strangers: one that never ends is stopped after some seconds.
    environment.set_fuel(Some(FUEL));
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("string", |value: &Value| python::str(value));
    environment.add_test("iterable", |value: &Value| !value.is_none() && tests::is_iterable(value));
    environment.add_test("sequence", |value: &Value| {
        // Slices are lazy here, hence iterables; in Python they are lists.
        let kinds = [ValueKind::String, ValueKind::Map, ValueKind::Iterable];
        kinds.contains(&value.kind()) || tests::is_sequence(value)
    });
    environment.add_function("raise_exception", |message: Value| Err::<Value, _>(failure(message)));
    environment
        .add_function("strftime_now", |format: &str| strtime::format(format, Zoned::now().datetime()).map_err(failure));
    environment
}

pub(super) fn failure(reason: impl ToString) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.to_string())
}

/// A template's text as minijinja has to read it: lines end with `\n`; the tags of transformers' `generation` block,
/// which prints its body in a scope of its own, are those of a `with` block; a `raw` block keeps its first newline.
pub(super) fn translate(template: &str) -> String {
    let template = template.replace("\r\n", "\n").replace('\r', "\n");
    let mut parts = template.split("{%");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let tag = part.trim_start_matches(['-', '+']).trim_start();
        let (before, tag) = part.split_at(part.len() - tag.len());
        let (name, rest) = tag.split_at(tag.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(tag.len()));
        let end = rest.trim_start();
        let ends = end.trim_start_matches(['-', '+']).starts_with("%}");
        let (name, rest) = match name {
            "generation" if ends => ("with", rest),
            "endgeneration" if ends => ("endwith", rest),
            "raw" if end.starts_with("%}") => ("raw +", end),
            _ => (name, rest),
        };
        text.extend(["{%", before, name, rest]);
    }
    text
}
