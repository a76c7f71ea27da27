//! What a chat template is given.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The names under which a message may carry the model's thoughts; the first is the one that templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// One message of a conversation: `role`, `content` and whatever else its template reads, in the order given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message(Map<String, Value>);

impl Message {
    /// What the model is told about its task.
    pub fn system(text: impl Into<String>) -> Self {
        Self::new("system", text)
    }

    /// What the user says.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new("user", text)
    }

    /// What the model answered.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new("assistant", text)
    }

    fn new(role: &str, text: impl Into<String>) -> Self {
        Self(Map::from_iter([("role".into(), role.into()), ("content".into(), Value::String(text.into()))]))
    }

    /// The message as templates see it: no key is null, and a thought has the names that they look for.
    pub(super) fn normalized(&self) -> Map<String, Value> {
        let given = self.0.iter().filter(|(_, value)| !value.is_null());
        let mut message: Map<_, _> = given.map(|(key, value)| (key.clone(), value.clone())).collect();
        if let Some(thought) = REASONING.iter().find_map(|key| message.get(*key)).cloned() {
            let thinking = message.get("thinking").unwrap_or(&thought).clone();
            message.shift_insert(0, "thinking".into(), thinking);
            message.insert("reasoning_content".into(), thought);
        }
        message
    }
}

impl From<Map<String, Value>> for Message {
    fn from(fields: Map<String, Value>) -> Self {
        Self(fields)
    }
}

/// Everything a prompt is made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conversation {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// Whether the prompt ends with what opens the model's answer.
    pub add_generation_prompt: bool,
    /// Name of the template; `tool_use` or `default` when absent.
    pub template: Option<String>,
    /// The functions that the model may call, as a list of JSON schemas.
    pub tools: Option<Value>,
    /// The documents that the model may cite, as a list of objects.
    pub documents: Option<Value>,
    /// Further names that the template sees, such as `enable_thinking`.
    pub variables: Map<String, Value>,
}
