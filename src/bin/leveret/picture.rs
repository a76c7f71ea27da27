//! A picture that is written once all of it is there.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Where a picture is to lie, as the user has named it.
#[derive(Debug, Clone)]
pub struct Picture(PathBuf);

impl Picture {
    /// Takes the name of a file, as which a picture of its kind can be drawn.
    pub fn named(name: &str) -> Result<Self, String> {
        match Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg")) {
            true => Ok(Self(name.into())),
            false => {
                Err("pictures are drawn as SVG, not as PNG or anything else; give a name that ends in .svg".into())
            }
        }
    }

    /// Sees that it can be written, before minutes go into what it shows; what has the name stays as it is.
    pub fn check(&self) -> Result<()> {
        if self.0.is_dir() {
            bail!("{}: is a directory; give the name of a file", self.0.display());
        }
        let temporary = self.temporary();
        File::create(&temporary).and_then(|_| std::fs::remove_file(temporary)).with_context(|| self.context())
    }

    /// Writes it, in place of what has the name.
    pub fn write(&self, svg: &str) -> Result<()> {
        let temporary = self.temporary();
        let written = std::fs::write(&temporary, svg).and_then(|()| std::fs::rename(&temporary, &self.0));
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written.with_context(|| self.context())
    }

    /// Beside it and named after all of it, so that no other file is met.
    fn temporary(&self) -> PathBuf {
        let mut name = OsString::from(&self.0);
        name.push(".partial");
        name.into()
    }

    fn context(&self) -> String {
        self.0.display().to_string()
    }
}
