use std::fmt;
use std::sync::{Arc, OnceLock};

use burn::tensor::DType;
use leveret_models::Dims;
use sha2::{Digest, Sha256};

use super::Cancellation;
use crate::checkpoint::Checkpoint;
use crate::error::{AtPath, Error, Result};
use crate::io::read_small;

/// Tensors that are looked into; in a checkpoint of more about as many, whose names chance picks: at every n-th, kinds
/// that each layer has would be left out.
const LOOKS: usize = 512;
/// Bytes that are looked at in the middle of each.
const LOOK: usize = 64;

/// What tells keys and values of one model from those of others: config, dtype and, by samples, weights.
///
/// It is the same wherever the checkpoint lies, and however it is cut into files.
#[derive(Clone)]
pub(crate) struct Fingerprint {
    checkpoint: Arc<Checkpoint>,
    dims: Dims,
    dtype: DType,
    digest: Arc<OnceLock<String>>,
    cancellation: Cancellation,
}

impl Fingerprint {
    /// That of a model which computes in `dtype`; nothing is read before it is asked for.
    pub(crate) fn new(checkpoint: Arc<Checkpoint>, dims: Dims, dtype: DType, cancellation: Cancellation) -> Self {
        Self { checkpoint, dims, dtype, digest: Arc::default(), cancellation }
    }

    /// Whether the two are of one model; files are read only where it is not the same in memory.
    pub(crate) fn is(&self, other: &Self) -> Result<bool> {
        let same = Arc::ptr_eq(&self.checkpoint, &other.checkpoint) && self.dtype == other.dtype;
        Ok(same || self.text()? == other.text()?)
    }

    /// In words, as it stands in a file; of weights that are still on their way it waits for all, unless cancelled.
    pub(crate) fn text(&self) -> Result<String> {
        let digest = match self.digest.get() {
            Some(digest) => digest,
            None => {
                let digest = self.read();
                if let Err(Error::Cancelled) = digest {
                    self.cancellation.reset();
                }
                let digest = digest?;
                self.digest.get_or_init(|| digest)
            }
        };
        let (Dims { num_layers, hidden_size, .. }, dtype, bytes) = (&self.dims, self.dtype, self.checkpoint.bytes());
        Ok(format!("{num_layers} layers of {hidden_size} in {dtype:?} from {bytes} bytes of weights, sum {digest}"))
    }

    fn read(&self) -> Result<String> {
        let mut hash = Sha256::new();
        let config = self.checkpoint.dir().join("config.json");
        hash.update(read_small(&config).at(&config)?);
        let mut names: Vec<_> = self.checkpoint.names().collect();
        names.sort_unstable();
        let every = names.len().div_ceil(LOOKS).max(1) as u64;
        let chosen = |name: &str| {
            let digest = Sha256::digest(name);
            u64::from_le_bytes(*digest.first_chunk().expect("32 bytes")).is_multiple_of(every)
        };
        let mut look = [0; LOOK];
        for name in names {
            let Some(entry) = self.checkpoint.get(name) else { continue };
            hash.update(format!("\n{name} {} {:?}\n", entry.stored(), entry.shape));
            if chosen(name) {
                let look = &mut look[..LOOK.min(entry.len as usize)];
                let middle = entry.offset + (entry.len - look.len() as u64) / 2;
                let shard = &self.checkpoint.shards()[entry.shard];
                shard.read_unless(&|| self.cancellation.is_asked_for(), middle, look)?;
                hash.update(look);
            }
        }
        Ok(hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fingerprint").field(&self.checkpoint.dir()).finish()
    }
}
