use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// What a user proves to be one with; it is sent to the hub alone, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct HubToken {
    text: String,
    /// Where it is from, for whoever has to look there.
    from: String,
}

impl HubToken {
    /// Takes a token as people paste it; none if nothing is left.
    pub(super) fn of(text: &str, from: String) -> Option<Self> {
        Some(Self { text: text.trim().to_owned(), from }).filter(|token| !token.is_empty())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The header's value; an error if no header can have it.
    pub(super) fn bearer(&self) -> Result<String> {
        match self.text.chars().position(|char| !char.is_ascii_graphic()) {
            None => Ok(format!("Bearer {}", self.text)),
            Some(index) => {
                let found = match self.text.chars().nth(index) {
                    Some('\n' | '\r') => "a line break",
                    Some(char) if char.is_whitespace() => "a space",
                    Some(char) if char.is_ascii() => "a control character",
                    _ => "no letter, digit or sign of ASCII",
                };
                Err(Error::Token { from: self.from.clone(), place: index + 1, found })
            }
        }
    }
}

impl From<&str> for HubToken {
    fn from(text: &str) -> Self {
        Self { text: text.trim().to_owned(), from: "that was given (--token)".to_owned() }
    }
}

impl FromStr for HubToken {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.into())
    }
}

impl fmt::Debug for HubToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn a_token_is_not_shown() {
        let token = HubToken::from(" hf_secret\n");
        assert_eq!(token.bearer().unwrap(), "Bearer hf_secret");
        assert!(!format!("{token:?} {:#?}", Some(&token)).contains("secret"));
    }

    #[rstest]
    #[case("hf_secret\nhf_other", 10, "a line break")]
    #[case("hf secret", 3, "a space")]
    #[case("hf_\u{1b}secret", 4, "a control character")]
    #[case("hf_secret…", 10, "no letter, digit or sign of ASCII")]
    fn what_no_header_takes_is_named_without_it(#[case] text: &str, #[case] place: usize, #[case] found: &str) {
        let error = HubToken::of(text, "in /home/me/token".to_owned()).unwrap().bearer().unwrap_err().to_string();
        for part in ["the token in /home/me/token", &format!("its character {place} is {found};")] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("secret"), "{error}");
    }
}
