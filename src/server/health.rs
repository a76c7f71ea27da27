use std::any::Any;
use std::sync::OnceLock;

/// Whether the thread that runs the model still does.
#[derive(Debug, Default)]
pub(super) struct Health(OnceLock<String>);

impl Health {
    /// Takes note of what that thread ended with.
    pub(super) fn fail(&self, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let _ = self.0.set(text.unwrap_or("for no reason that it told").to_owned());
    }

    /// Why it ended, if it has.
    pub(super) fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}
