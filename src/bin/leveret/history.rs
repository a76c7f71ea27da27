//! Where lines that were typed are kept between runs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// `leveret/history` in the user's folder of states, if there is one.
pub fn file() -> Option<PathBuf> {
    in_state_folder(std::env::var_os("XDG_STATE_HOME"), std::env::home_dir())
}

/// Makes the folder of a file, for its owner alone.
pub fn make_folder(file: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(file.parent().unwrap_or(file))
}

fn in_state_folder(state_home: Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    // What is no absolute path counts as not set.
    let given = state_home.map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = given.or_else(|| Some(home.filter(|home| home.is_absolute())?.join(".local/state")))?;
    Some(folder.join("leveret/history"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Some("/state"), Some("/home/me"), Some("/state/leveret/history"))]
    #[case(Some("state"), Some("/home/me"), Some("/home/me/.local/state/leveret/history"))]
    #[case(None, Some("/home/me"), Some("/home/me/.local/state/leveret/history"))]
    #[case(Some(""), None, None)]
    fn the_folder_is_the_one_for_states(
        #[case] state_home: Option<&str>,
        #[case] home: Option<&str>,
        #[case] expected: Option<&str>,
    ) {
        let found = in_state_folder(state_home.map(OsString::from), home.map(PathBuf::from));
        assert_eq!(found, expected.map(PathBuf::from));
    }
}
