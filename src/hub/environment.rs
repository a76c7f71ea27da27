use std::path::{Path, PathBuf};

use super::HubToken;

/// The variables that concern the hub, with the names and the precedence that `huggingface_hub` gives them.
pub(super) struct Environment<'a> {
    variable: Box<Lookup<'a>>,
    home: PathBuf,
}

/// The value of a variable, if it is set.
type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

impl Environment<'_> {
    /// That of this process.
    pub(super) fn of_process() -> Self {
        let home = std::env::home_dir().unwrap_or_default();
        Self { variable: Box::new(|name| std::env::var(name).ok()), home }
    }

    pub(super) fn endpoint(&self) -> String {
        let endpoint = self.get("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        endpoint.trim_end_matches('/').to_owned()
    }

    pub(super) fn cache_dir(&self) -> PathBuf {
        self.path("HF_HUB_CACHE")
            .or_else(|| self.path("HUGGINGFACE_HUB_CACHE")) // its name of old
            .unwrap_or_else(|| self.hf_home().join("hub"))
    }

    pub(super) fn token(&self) -> Option<HubToken> {
        let file = || self.path("HF_TOKEN_PATH").unwrap_or_else(|| self.hf_home().join("token"));
        let given = self.get("HF_TOKEN").and_then(|text| HubToken::of(&text, "of HF_TOKEN".to_owned()));
        given.or_else(|| {
            let path = file();
            HubToken::of(&std::fs::read_to_string(&path).ok()?, format!("in {}", path.display()))
        })
    }

    pub(super) fn is_offline(&self) -> bool {
        self.get("HF_HUB_OFFLINE").is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&&*value.to_uppercase()))
    }

    fn hf_home(&self) -> PathBuf {
        let cache = || self.path("XDG_CACHE_HOME").unwrap_or_else(|| self.home.join(".cache"));
        self.path("HF_HOME").unwrap_or_else(|| cache().join("huggingface"))
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        let path = self.get(name)?;
        Some(match Path::new(&path).strip_prefix("~") {
            Ok(rest) => self.home.join(rest),
            Err(_) => path.into(),
        })
    }

    /// A variable that says something.
    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn environment<'a>(variables: &'a [(&'a str, &'a str)]) -> Environment<'a> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Environment { variable: Box::new(find), home: "/home/me".into() }
    }

    #[rstest]
    #[case(&[], "/home/me/.cache/huggingface/hub")]
    #[case(&[("XDG_CACHE_HOME", "/xdg")], "/xdg/huggingface/hub")]
    #[case(&[("XDG_CACHE_HOME", "/xdg"), ("HF_HOME", "/hf")], "/hf/hub")]
    #[case(&[("XDG_CACHE_HOME", "/xdg"), ("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/cache")], "/cache")]
    #[case(&[("HF_HOME", "~/hf"), ("HF_HUB_CACHE", "")], "/home/me/hf/hub")]
    fn the_cache_lies_where_python_has_it(#[case] variables: &[(&str, &str)], #[case] dir: &str) {
        assert_eq!(environment(variables).cache_dir(), Path::new(dir));
    }

    #[test]
    fn a_token_is_taken_from_the_environment_before_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let (home, path) = (dir.path().to_str().unwrap(), dir.path().join("other"));
        std::fs::write(dir.path().join("token"), "of_home\n").unwrap();
        std::fs::write(&path, "of_path").unwrap();
        let path = path.to_str().unwrap();
        let token = |variables: &[(&str, &str)]| environment(variables).token().map(|token| token.bearer().unwrap());
        assert_eq!(token(&[("HF_HOME", home)]).unwrap(), "Bearer of_home");
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN_PATH", path)]).unwrap(), "Bearer of_path");
        assert_eq!(token(&[("HF_TOKEN_PATH", path), ("HF_TOKEN", "given")]).unwrap(), "Bearer given");
        assert_eq!(token(&[("HF_TOKEN_PATH", "/nowhere"), ("HF_TOKEN", " ")]), None);
    }

    #[rstest]
    #[case("1", true)]
    #[case("yes", true)]
    #[case("0", false)]
    #[case("", false)]
    fn offline_is_said_in_words(#[case] value: &str, #[case] offline: bool) {
        assert_eq!(environment(&[("HF_HUB_OFFLINE", value)]).is_offline(), offline);
    }
}
