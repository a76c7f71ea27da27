/// Watches a text that comes in pieces for stop strings.
#[derive(Debug)]
pub(crate) struct StopStrings {
    strings: Vec<String>,
    /// Text that may be the start of a stop string.
    held: String,
}

impl StopStrings {
    pub(crate) fn new(strings: &[String]) -> Self {
        Self { strings: strings.iter().filter(|string| !string.is_empty()).cloned().collect(), held: String::new() }
    }

    /// What may be given out now that `text` has come, and whether a stop string was found; it is never given out.
    pub(crate) fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        if let Some(start) = self.strings.iter().filter_map(|string| self.held.find(string.as_str())).min() {
            let mut text = std::mem::take(&mut self.held);
            text.truncate(start);
            return (text, true);
        }
        let may_start = |at: &usize| self.strings.iter().any(|string| string.starts_with(&self.held[*at..]));
        let start = self.held.char_indices().map(|(at, _)| at).find(may_start).unwrap_or(self.held.len());
        let held = self.held.split_off(start);
        (std::mem::replace(&mut self.held, held), false)
    }

    /// What was held back in vain.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stop: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut strings = StopStrings::new(&stop.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        let mut text = String::new();
        for piece in pieces {
            let (piece, stopped) = strings.push(piece);
            text.push_str(&piece);
            if stopped {
                return (text, true);
            }
        }
        (text + &strings.finish(), false)
    }

    #[test]
    fn a_stop_string_across_pieces_is_found_and_not_given_out() {
        assert_eq!(run(&["\nUser:"], &["Hello.", "\nUs", "er: and"]), ("Hello.".into(), true));
        assert_eq!(run(&["aab"], &["a", "a", "a", "b"]), ("a".into(), true));
        assert_eq!(run(&["world", "lo"], &["hel", "lo world"]), ("hel".into(), true));
    }

    #[test]
    fn a_start_that_comes_to_nothing_is_given_out() {
        assert_eq!(run(&["\nUser:"], &["Hello.", "\nUs"]), ("Hello.\nUs".into(), false));
        assert_eq!(run(&["→→"], &["a→", "b→"]), ("a→b→".into(), false));
        assert_eq!(run(&[""], &["text"]), ("text".into(), false));
    }
}
