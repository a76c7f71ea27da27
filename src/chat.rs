//! Placeholder until the real module arrives.
use crate::error::Result;
use std::path::Path;
/// x
#[derive(Debug, Clone)]
pub struct Message;
impl Message {
    /// x
    pub fn system(_t: impl AsRef<str>) -> Self {
        Self
    }
    /// x
    pub fn user(_t: impl AsRef<str>) -> Self {
        Self
    }
}
/// x
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// x
    pub messages: Vec<Message>,
    /// x
    pub template: Option<String>,
    /// x
    pub add_generation_prompt: bool,
}
/// x
#[derive(Debug)]
pub struct ChatTemplate;
impl ChatTemplate {
    /// x
    pub fn from_dir(_dir: &Path) -> Result<Option<Self>> {
        Ok(None)
    }
    /// x
    pub fn render(&self, _c: &Conversation) -> Result<String> {
        Ok(String::new())
    }
}
