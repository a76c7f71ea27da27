//! The chat template of a checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;

use minijinja::value::Serde;
use minijinja::{Environment, context};

use super::sources::{self, template_error};
use super::{Conversation, dialect};
use crate::error::{Error, Result};

/// Templates longer than this are refused: what they nest might not fit on the [`STACK`].
const MAX_LENGTH: usize = 256 << 10;

/// minijinja descends into nested expressions and values without limit, and templates come from strangers.
const STACK: usize = 512 << 20;

/// The chat template of a checkpoint, or several under names, with the special tokens that they print.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Name → the file that it stands in.
    files: BTreeMap<String, PathBuf>,
    tokens: BTreeMap<String, String>,
    dir: PathBuf,
}

impl ChatTemplate {
    /// Reads the templates of a checkpoint directory; `None` when it has none.
    ///
    /// Looks for `chat_template.jinja` and `additional_chat_templates/*.jinja`, else for `chat_template` in
    /// `tokenizer_config.json`.
    pub fn from_dir(dir: &Path) -> Result<Option<Self>> {
        let templates = sources::templates(dir)?;
        if templates.is_empty() {
            return Ok(None);
        }
        let mut environment = dialect::environment();
        let mut files = BTreeMap::new();
        for (name, source) in templates {
            if source.text.len() > MAX_LENGTH {
                let reason = format!("`{name}` has {} bytes, expected at most {MAX_LENGTH}", source.text.len());
                return Err(template_error(&source.path, reason));
            }
            let text = dialect::translate(&source.text);
            on_large_stack(&name, &source.path, || environment.add_template_owned(name.clone(), text))?;
            files.insert(name, source.path);
        }
        Ok(Some(Self { environment, files, tokens: sources::special_tokens(dir)?, dir: dir.to_owned() }))
    }

    /// Makes the prompt of a conversation.
    pub fn render(&self, conversation: &Conversation) -> Result<String> {
        let (name, path) = self.choose(conversation)?;
        if conversation.messages.is_empty() {
            return Err(template_error(path, "the conversation has no message"));
        }
        for (field, list) in [("tools", &conversation.tools), ("documents", &conversation.documents)] {
            if !list.as_ref().is_none_or(is_null_or_objects) {
                return Err(template_error(path, format!("`{field}` is not a list of objects")));
            }
        }
        on_large_stack(name, path, || {
            let messages: Vec<_> = conversation.messages.iter().map(|message| message.normalized()).collect();
            let context = context! {
                messages => Serde(messages),
                tools => Serde(&conversation.tools),
                documents => Serde(&conversation.documents),
                add_generation_prompt => conversation.add_generation_prompt,
                ..context! { ..Serde(&conversation.variables), ..Serde(&self.tokens) }
            };
            self.environment.get_template(name)?.render(context)
        })
    }

    /// The token that opens a text, if the checkpoint names one.
    pub fn bos_token(&self) -> Option<&str> {
        self.tokens.get("bos_token").map(String::as_str)
    }

    /// Name and file of the template that was asked for, or of the one that serves the conversation.
    fn choose(&self, conversation: &Conversation) -> Result<(&str, &Path)> {
        let tools = conversation.tools.as_ref().is_some_and(|tools| !tools.is_null());
        let name = match conversation.template.as_deref() {
            Some(name) => name,
            None if tools && self.files.contains_key("tool_use") => "tool_use",
            None => "default",
        };
        let found = self.files.get_key_value(name).map(|(name, path)| (name.as_str(), path.as_path()));
        found.ok_or_else(|| {
            let names: Vec<_> = self.files.keys().map(|name| format!("`{name}`")).collect();
            template_error(&self.dir, format!("there is no template `{name}`, choose from {}", names.join(", ")))
        })
    }
}

fn is_null_or_objects(value: &serde_json::Value) -> bool {
    value.is_null() || value.as_array().is_some_and(|list| list.iter().all(|entry| entry.is_object()))
}

/// Runs the template engine; where it fails or panics, the error says where and why.
fn on_large_stack<T: Send>(
    name: &str,
    path: &Path,
    work: impl FnOnce() -> Result<T, minijinja::Error> + Send,
) -> Result<T> {
    // The engine's errors hold the template's variables: they, too, stay on this stack.
    let work = || work().map_err(|error| describe(name, &error));
    let thread = thread::Builder::new().stack_size(STACK);
    let done = thread::scope(|scope| Ok(thread.spawn_scoped(scope, work)?.join()));
    let done = done.map_err(|error| Error::Io { path: path.to_owned(), error })?;
    done.unwrap_or_else(|_| Err(format!("`{name}`: the template engine panicked")))
        .map_err(|reason| template_error(path, reason))
}

/// Which template, which line, what is wrong.
fn describe(name: &str, error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
    let kind = error.kind().to_string();
    format!("`{name}`{line}: {}", error.detail().unwrap_or(&kind).replace(['\n', '\r'], " "))
}
