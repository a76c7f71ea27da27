use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// What a user proves to be one with; it is sent to the hub alone, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct HubToken(String);

impl HubToken {
    /// Takes a token as people paste it; none if nothing is left.
    pub(super) fn of(text: &str) -> Option<Self> {
        Some(Self::from(text)).filter(|token| !token.is_empty())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The header's value.
    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl From<&str> for HubToken {
    fn from(text: &str) -> Self {
        Self(text.trim().to_owned())
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

    #[test]
    fn a_token_is_not_shown() {
        let token = HubToken::from(" hf_secret\n");
        assert_eq!(token.bearer(), "Bearer hf_secret");
        assert!(!format!("{token:?} {:#?}", Some(&token)).contains("secret"));
    }
}
