//! What is kept of a conversation between its turns, in memory and on disk.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use burn::prelude::Tensor;
use burn::tensor::{DType, TensorData};
use leveret_models::Backend;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors, serialize_to_file};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cache::Cache;
use crate::engine::{Engine, Fingerprint, Request, Rows};
use crate::error::{AtPath, Error, Result};
use crate::sequence::Sequence;

/// Keys and values of one conversation, so that a turn computes only what is new in it.
///
/// Made by [`Model::session`](crate::Model::session).
#[derive(Debug)]
pub struct Session<B: Backend> {
    pub(crate) cache: Cache<B>,
    /// The reply that has been begun and not ended.
    pub(crate) reply: Option<Reply>,
    fingerprint: Fingerprint,
}

/// A reply that goes on, and where its sampler is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) prompt: Vec<u32>,
    pub(crate) tokens: Vec<u32>,
    pub(crate) seed: u64,
    pub(crate) drawn: u64,
}

/// What stands beside the tensors of a session's file.
#[derive(Serialize, Deserialize)]
struct Header {
    /// Of the model that made the arrays, if there are any.
    fingerprint: Option<String>,
    tokens: Vec<u32>,
    reply: Option<Reply>,
    note: Value,
}

/// The name of the header among the metadata of a safetensors file.
const HEADER: &str = "leveret_session";

impl<B: Backend> Session<B> {
    /// An empty session with room for `context` positions.
    pub(crate) fn new(engine: &mut Engine<B>, context: usize) -> Result<Self> {
        let context = context.min(engine.dims().max_positions);
        let cache = engine.begin(Request::new(1, context, context, Rows::Last))?;
        Ok(Self { cache, reply: None, fingerprint: engine.fingerprint() })
    }

    /// Positions that it has room for.
    pub fn context(&self) -> usize {
        self.cache.reserve()
    }

    /// Tokens whose keys and values are there.
    pub fn len(&self) -> usize {
        self.cache.tokens(0).len()
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.cache.truncate(0);
        self.reply = None;
    }

    /// Lets a reply that was begun be as it is.
    pub fn end_reply(&mut self) {
        self.reply = None;
    }

    /// Refuses an engine of another model.
    pub(crate) fn check_model(&self, engine: &Engine<B>) -> Result<()> {
        let fingerprint = engine.fingerprint();
        match fingerprint.is(&self.fingerprint)? {
            true => Ok(()),
            false => {
                let (expected, found) = (fingerprint.text()?, self.fingerprint.text()?);
                Err(Error::OtherSession { path: None, expected, found })
            }
        }
    }

    /// Goes back to what `tokens` begin with; gives how many of them need not be computed. One always is.
    ///
    /// Where rotations are the same up to a length alone, `fixed`, what goes beyond it is of use as a whole or not at all.
    pub(crate) fn keep_prefix_of(&mut self, tokens: &[u32], fixed: Option<usize>) -> usize {
        let same = self.cache.tokens(0).iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let torn = fixed.is_some_and(|fixed| self.len() > fixed && same < self.len());
        self.cache.truncate(if torn { 0 } else { same.min(tokens.len().saturating_sub(1)) })
    }

    /// Takes note of tokens that the reply goes on with; of none that it ends with, since then it has ended.
    pub(crate) fn noted(&mut self, tokens: &[u32], sequence: &Sequence<'_>) {
        match (&mut self.reply, sequence.is_finished()) {
            (Some(reply), false) => {
                reply.tokens.extend(tokens);
                reply.drawn = sequence.drawn();
            }
            _ => self.reply = None,
        }
    }

    /// Writes everything to a file, and `note` beside it; the file is replaced once the new one is whole.
    pub(crate) fn save(&self, path: &Path, note: &Value) -> Result<()> {
        let header = Header {
            fingerprint: (!self.is_empty()).then(|| self.fingerprint.text()).transpose()?,
            tokens: self.cache.tokens(0).to_vec(),
            reply: self.reply.clone(),
            note: note.clone(),
        };
        let header = serde_json::to_string(&header).map_err(|error| json(path, &error))?;
        let mut arrays = Vec::new();
        for (layer, cache) in self.cache.layers.iter().enumerate() {
            for (part, columns) in cache.arrays().into_iter().enumerate() {
                arrays.push((format!("{layer}.{part}"), columns.into_data()));
            }
        }
        let views = arrays.iter().map(|(name, data)| {
            let view = TensorView::new(stored(data.dtype), data.shape.to_vec(), data.as_bytes());
            Ok((name.as_str(), view.map_err(|error| broken(path, &error))?))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        // Beside the file and named after all of it, so that no other file is met.
        let mut temporary = OsString::from(path);
        temporary.push(".partial");
        let temporary = PathBuf::from(temporary);
        let metadata = Some(HashMap::from([(HEADER.to_owned(), header)]));
        // Whatever goes wrong is told of the name that was given.
        File::create(&temporary).at(path)?;
        let written = serialize_to_file(views, metadata, &temporary).map_err(|error| match error {
            SafeTensorError::IoError(error) => Error::Io { path: path.to_owned(), error },
            error => broken(path, &error),
        });
        let synced = written.and_then(|()| File::open(&temporary).and_then(|file| file.sync_all()).at(path));
        let replaced = synced.and_then(|()| std::fs::rename(&temporary, path).at(path));
        if replaced.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        replaced
    }

    /// Reads what [`save`](Self::save) wrote into an empty session of the same model; gives the note.
    pub(crate) fn restore(&mut self, path: &Path, device: impl Fn(usize) -> B::Device) -> Result<Value> {
        let bytes = std::fs::read(path).at(path)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| broken(path, &error))?;
        let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(HEADER));
        let unfit = |reason: &str| Error::Unsupported { path: path.to_owned(), reason: reason.to_owned() };
        let header = header.ok_or_else(|| unfit("this is not a session; give another name"))?;
        let header: Header = serde_json::from_str(header).map_err(|error| json(path, &error))?;
        match header.fingerprint {
            Some(found) => {
                let expected = self.fingerprint.text()?;
                if found != expected {
                    return Err(Error::OtherSession { path: Some(path.to_owned()), expected, found });
                }
            }
            None if header.tokens.is_empty() => {}
            None => return Err(unfit("it does not tell of which model it is; give another name")),
        }
        if header.reply.as_ref().is_some_and(|reply| reply.drawn > reply.tokens.len() as u64) {
            return Err(unfit("its reply has more draws than tokens; give another name"));
        }
        if header.tokens.len() > self.context() {
            return Err(unfit("this session is longer than there is room for; raise --context"));
        }
        let file = SafeTensors::deserialize(&bytes).map_err(|error| broken(path, &error))?;
        let mut layers = Vec::new();
        for (layer, cache) in self.cache.layers.iter().enumerate() {
            let mut columns = Vec::new();
            while let Ok(view) = file.tensor(&format!("{layer}.{}", columns.len())) {
                let dtype = burn_dtype(view.dtype()).ok_or_else(|| unfit("its dtype is unknown"))?;
                if !cache.fits(view.shape(), header.tokens.len()) {
                    return Err(unfit("its arrays are not those of a session"));
                }
                let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype);
                columns.push(Tensor::<B, 4>::from_data(data, (&device(layer), dtype)));
            }
            layers.push(columns);
        }
        self.cache.fill(layers, header.tokens);
        self.reply = header.reply;
        Ok(header.note)
    }
}

fn stored(dtype: DType) -> Dtype {
    match dtype {
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        _ => Dtype::F32,
    }
}

fn burn_dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F32 => Some(DType::F32),
        _ => None,
    }
}

fn broken(path: &Path, error: &SafeTensorError) -> Error {
    let reason = format!("this is no session, or one that is cut off ({error}); give another name");
    Error::Unsupported { path: path.to_owned(), reason }
}

fn json(path: &Path, error: &serde_json::Error) -> Error {
    Error::Json { path: path.to_owned(), reason: error.to_string() }
}
