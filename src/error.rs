use std::fmt::Debug;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leveret_models::ConfigError;

/// What can go wrong, with the file, the tensor, what was expected, what was found, and the next step to take.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    #[error("{}: {error}{}", path.display(), next(error))]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{}: not JSON as expected: {reason}", path.display())]
    Json { path: PathBuf, reason: String },
    #[error("{}: {error}", path.display())]
    Config { path: PathBuf, error: ConfigError },
    #[error("{}: {reason}", path.display())]
    Unsupported { path: PathBuf, reason: String },

    #[error(
        "{}: no checkpoint here: expected model.safetensors or model.safetensors.index.json; pass the directory that \
         holds config.json and the safetensors files",
        path.display()
    )]
    NoCheckpoint { path: PathBuf },
    #[error("{}: broken safetensors header: {reason}; download the file again", path.display())]
    Header { path: PathBuf, reason: String },
    #[error("{}: names shard `{shard}`, which is missing; download it into the same directory", index.display())]
    MissingShard { index: PathBuf, shard: String },
    #[error("{}: tensor `{tensor}` is missing; {hint}", path.display())]
    MissingTensor { path: PathBuf, tensor: String, hint: String },
    #[error(
        "{}: tensor `{tensor}` has no place in this model; check config.json (number of layers, biases, model_type)",
        path.display()
    )]
    ExtraTensor { path: PathBuf, tensor: String },
    #[error(
        "{}: tensor `{tensor}` has shape {found:?}, expected {expected:?}; check that config.json belongs to this \
         checkpoint",
        path.display()
    )]
    Shape { path: PathBuf, tensor: String, expected: Vec<usize>, found: Vec<usize> },
    #[error(
        "{}: tensor `{tensor}` has dtype {found}, expected {expected}; check that quantization_config in config.json says \
         what this checkpoint is, or use one that is not quantised",
        path.display()
    )]
    Dtype { path: PathBuf, tensor: String, expected: String, found: String },
    #[error("{}: changed or became shorter while it was in use; load the model again", path.display())]
    Changed { path: PathBuf },
    #[error("the device fails: {reason}; check it with nvidia-smi, or run with --device cpu")]
    Device { reason: String },
    #[error(
        "{} of device memory are wanted, {} are free; lower --vram, or end what else uses the device",
        human(*wanted),
        human(*free)
    )]
    DeviceFull { wanted: u64, free: u64 },
    #[error(
        "{}: {} are needed there, {} are free; free some, or choose a directory on another disk",
        path.display(),
        human(*needed),
        human(*free)
    )]
    DiskFull { path: PathBuf, needed: u64, free: u64 },
    #[error("{}: `{found}` is there, which {reason}; choose an empty directory", path.display())]
    NotEmpty { path: PathBuf, found: String, reason: &'static str },
    #[error(
        "there is no model `{model}` on {hub} that everybody may see, nor a directory of that name; check the spelling, \
         or pass a token (--token, HF_TOKEN) if it is private"
    )]
    NoModel { model: String, hub: String },
    #[error("{model} has no revision `{revision}`; choose a branch, tag or commit of {page}/commits/main")]
    NoRevision { model: String, revision: String, page: String },
    #[error("{model} has no file `{file}` at revision {revision}; see {page}/tree/{revision}")]
    NoFile { model: String, revision: String, file: String, page: String },
    #[error(
        "the hub does not give {model} to everybody (it answers {status}); accept its licence at {page}, and pass {token} \
         that may read it: --token, HF_TOKEN, or the file that `hf auth login` writes"
    )]
    NoAccess { model: String, status: u16, page: String, token: &'static str },
    #[error("the token {from} cannot be sent: its character {place} is {found}; copy it anew, all in one line")]
    Token { from: String, place: usize, found: &'static str },
    #[error("{model} has no weights in safetensors files, found {found}; choose another revision or a converted model")]
    NoWeights { model: String, found: &'static str },
    #[error(
        "there is no directory {model}, and the hub, which may have a model of that name, is not reached: {reason}; check \
         the spelling, or the connection"
    )]
    NoAnswer { model: String, reason: String },
    #[error("{url}: {reason}; check the connection, and give the command again: it goes on where it stopped")]
    Connection { url: String, reason: String },
    #[error("{url}: {found} bytes are offered, the hub's list says {expected}; try again later")]
    WrongLength { url: String, expected: u64, found: u64 },
    #[error("{url}: other bytes are offered ({found}) than the hub's list says ({expected}); try again later")]
    WrongBytes { url: String, expected: String, found: String },
    #[error(
        "{}: its bytes have the SHA-256 {found}, the hub's list says {expected}: they were damaged on their way, and are \
         removed; give the command again",
        path.display()
    )]
    Checksum { path: PathBuf, expected: String, found: String },
    #[error(
        "there is no directory {model}, and of a model of that name {} lacks {}; check the spelling, or run `leveret pull \
         {model}` when online",
        dir.display(),
        missing.join(", ")
    )]
    Offline { model: String, dir: PathBuf, missing: Vec<String> },
    #[error("{model} is not in the cache ({}); `leveret ls` shows what is", dir.display())]
    NotCached { model: String, dir: PathBuf },
    #[error("{}: {error}", path.display())]
    Coming { path: PathBuf, error: Arc<Error> },
    #[error("no device is given to run on; give at least one")]
    NoDevices,
    #[error("{what} was not found; {next}")]
    NoCuda { what: &'static str, next: &'static str },
    #[error("the stream of weights ended without a reason; load the model again")]
    ReaderStopped,

    #[error("the thread that runs the model ended: {reason}; start the server again")]
    SchedulerEnded { reason: String },

    #[error("a budget of {} is too small: {}", human(*budget), least.explanation())]
    Budget { budget: u64, least: Least },
    #[error("a budget of {} of host memory is too small: the least is {}; raise it (--ram)", human(*budget), human(*least))]
    HostBudget { budget: u64, least: u64 },
    #[error("cannot tell how much memory is free: {reason}; say how much may be used (--ram 4GiB)")]
    FreeMemory { reason: String },
    #[error("`{text}` is not a size; write bytes, `512MiB`, `4GiB`, `2GB`, `min` or `free`")]
    Size { text: String },
    #[error("unknown {what} `{found}`; expected {expected}")]
    Name { what: &'static str, found: String, expected: String },

    #[error(
        "{}this session was made with {found}, this model has {expected}; load that one, or give another name",
        path.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default()
    )]
    OtherSession { path: Option<PathBuf>, expected: String, found: String },
    #[error("the thread that generates has panicked; this is a defect, report it with what is on standard error")]
    Panicked,
    #[error("cancelled")]
    Cancelled,
    #[error("the prompt is empty; give at least one token")]
    EmptyPrompt,
    #[error("{wanted} sequences are to join, there is room for {room}; wait until others end, or make room for more")]
    NoRoom { wanted: usize, room: usize },
    #[error("there is no sequence {sequence}: there are {count}, counted from 0")]
    NoSequence { sequence: usize, count: usize },
    #[error("token id {id} is out of range: the model's vocabulary has {vocab_size} entries; check the tokenizer")]
    TokenId { id: u32, vocab_size: usize },
    #[error(
        "{requested} positions are asked for (prompt {prompt} + max_tokens {max_tokens}), there is room for \
         {max_positions}; shorten the prompt or lower max_tokens"
    )]
    TooLong { requested: usize, prompt: usize, max_tokens: usize, max_positions: usize },
    #[error(
        "NaN or infinity appears first in {place}; {}check the checkpoint, its config.json too",
        if *is_widest { "" } else { "run in a wider dtype (--dtype float32), or " }
    )]
    NonFinite { place: String, is_widest: bool },
    #[error(
        "the KV cache of layer {layer} has {found} positions after the pass, expected {expected}; this is a defect \
         of the architecture's code, report it"
    )]
    CacheLength { layer: usize, expected: usize, found: usize },

    #[error(
        "{}: its logits are of {found} tokens each, the model's vocab_size is {expected}: it belongs to another model",
        path.display()
    )]
    VocabSize { path: PathBuf, expected: usize, found: usize },
    #[error(
        "{}: has other {what} than {}{}; compare models that share a tokenizer",
        path.display(),
        other.display(),
        numbers.map(|[one, other]| format!(" ({one} and {other})")).unwrap_or_default()
    )]
    Incomparable { path: PathBuf, other: PathBuf, what: &'static str, numbers: Option<[usize; 2]> },
    #[error("windows of {window} tokens are asked for, the model has {max_positions} positions; lower --window")]
    Window { window: usize, max_positions: usize },
    #[error(
        "{}: there is no such file; give one with --reference, let tests/fixtures/make.py show how transformers makes it, \
         or compare with another checkpoint on a text (--against DIR --text FILE)",
        path.display()
    )]
    NoReference { path: PathBuf },
    #[error("the text has {tokens} tokens; give one of at least 2")]
    ShortText { tokens: usize },
    #[error("{}: {reason}", path.display())]
    Tokenizer { path: PathBuf, reason: String },
    #[error(
        "{}: there is no tokenizer.json here; give token ids (--tokens 1,15,27), or make one with transformers' \
         `AutoTokenizer.from_pretrained(...).save_pretrained(...)`",
        path.display()
    )]
    NoTokenizer { path: PathBuf },
    #[error("{}: chat template: {reason}", path.display())]
    Template { path: PathBuf, reason: String },
    #[error("{}: there is no chat template here; give the prompt as plain text", path.display())]
    NoTemplate { path: PathBuf },
    #[error("the form of the reply cannot be kept: {reason}; check the schema")]
    Constraint { reason: String },
    #[error(
        "sampling option {option} is {found}, expected {expected}; what is not given is taken from the checkpoint's \
         generation_config.json"
    )]
    Sampling { option: &'static str, found: String, expected: &'static str },
}

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The parts of the least memory that a model runs in, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Least {
    /// The slot of the largest unit.
    pub slot: u64,
    /// The slot of the largest expert, where there are some.
    pub expert: u64,
    /// Keys and values.
    pub kv_cache: u64,
    /// Hidden states and what layers make of them.
    pub activations: u64,
}

impl Least {
    /// The sum.
    pub fn total(&self) -> u64 {
        self.slot.saturating_add(self.expert).saturating_add(self.kv_cache).saturating_add(self.activations)
    }

    fn explanation(&self) -> String {
        let expert = if self.expert > 0 { format!(", an expert {}", human(self.expert)) } else { String::new() };
        format!(
            "the least is {} (largest unit {}{expert}, KV cache {}, activations {}); raise it (--ram, on a GPU --vram), or ask for \
             fewer positions: a shorter prompt, a lower max_tokens, of a server --context and --max-sequences",
            human(self.total()),
            human(self.slot),
            human(self.kv_cache),
            human(self.activations)
        )
    }
}

impl Error {
    /// What a device says of a failure, less the source of a kernel that does not compile, which may be half a megabyte.
    pub(crate) fn device(said: impl Debug) -> Self {
        let said = format!("{said:?}");
        Self::Device { reason: said.split("[Source]").next().unwrap_or_default().trim_end().to_owned() }
    }
}

/// A size for people, rounded up so that what is called enough is enough.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["bytes", "KiB", "MiB", "GiB"];
    let unit = (bytes.max(1).ilog2() as usize / 10).min(3);
    let scale = 1u64 << (10 * unit);
    match unit {
        0 => format!("{bytes} bytes"),
        _ => format!("{:.1} {}", (u128::from(bytes) * 10).div_ceil(u128::from(scale)) as f64 / 10.0, UNITS[unit]),
    }
}

/// What to do about an error of the operating system, where that can be said.
fn next(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "; check the path",
        ErrorKind::PermissionDenied => "; let this user read and write there, or choose another place",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; free some space, or choose a directory on another disk",
        ErrorKind::ReadOnlyFilesystem => "; choose a place that can be written to",
        ErrorKind::NotADirectory => "; give a directory",
        ErrorKind::IsADirectory => "; give a file",
        ErrorKind::OutOfMemory => "; end what else takes memory, or lower --ram",
        _ => "",
    }
}

/// Names the file that an operating-system error is about.
pub(crate) trait AtPath<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> AtPath<T> for std::io::Result<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| Error::Io { path: path.as_ref().to_owned(), error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_does_not_compile_is_told_without_its_source() {
        let said = Error::device(format_args!("[Compilation Error] no `mma.h` \n[Source]\n{}", "x".repeat(1 << 19)));
        assert!(said.to_string().starts_with("the device fails: [Compilation Error] no `mma.h`; check it"), "{said}");
    }
}
