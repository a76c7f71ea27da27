/// What a download tells whoever listens; see [`Hub::on_event`](super::Hub::on_event).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PullEvent<'a> {
    /// The hub could not be asked; what the cache has whole is taken.
    FromCache {
        /// The model's name.
        model: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// The hub was asked in vain what it has, and is asked again after a while.
    AsksAgain {
        /// What was asked.
        url: &'a str,
        /// What happened.
        reason: &'a str,
    },
    /// Some files are about to be downloaded.
    Starts {
        /// The model's name.
        model: &'a str,
        /// How many files.
        files: usize,
        /// Bytes of all of them.
        bytes: u64,
        /// Those that are there from an earlier download.
        there: u64,
    },
    /// One file begins to arrive.
    FileStarts {
        /// Its name.
        file: &'a str,
        /// Its bytes.
        bytes: u64,
        /// Those that are there.
        there: u64,
    },
    /// Bytes have arrived.
    Arrived {
        /// Of this file.
        file: &'a str,
        /// So many.
        bytes: u64,
    },
    /// The connection was cut, and is made anew after a while.
    Retries {
        /// The file that is downloaded.
        file: &'a str,
        /// What happened.
        reason: &'a str,
    },
    /// Another process downloads the file, which is waited for.
    Waits {
        /// Its name.
        file: &'a str,
    },
    /// A file is whole.
    FileEnds {
        /// Its name.
        file: &'a str,
    },
    /// All files are whole.
    Ends,
}
