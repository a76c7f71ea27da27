use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use leveret_models::Backend;
use leveret_models::weight::Format;
use serde_json::{Map, Value, json};

use super::contents::Contents;
use super::deviation::Deviation;
use super::report::{PackProgress, PackReport};
use super::shard::Shard;
use super::target::{SmallFile, Target};
use crate::checkpoint::Checkpoint;
use crate::config::{self, Config};
use crate::error::{AtPath, Error, Result};
use crate::io::read_small;
use crate::unit::Units;
use crate::{decoder, quantization_config};

/// Says how a checkpoint is packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// The format of the matrices of linear layers, the head's included.
    pub format: Format,
    /// Bytes of tensors that a file of weights has at most, unless a single tensor has more.
    pub max_shard_size: u64,
}

impl Pack {
    /// In files of at most 4 GiB.
    pub fn new(format: Format) -> Self {
        Self { format, max_shard_size: 4 << 30 }
    }

    /// Packs the checkpoint in directory `model` into directory `out`, which is made if it is not there.
    ///
    /// The architecture says which tensors are matrices of linear layers; those that groups fill are packed, all other
    /// tensors are copied, and so are the small files beside them. Nothing in `model` is written.
    ///
    /// A file gets its name when it is whole, and `config.json` is the last of them: what an ended run has left is
    /// never taken for a checkpoint, and another call goes on from there. `B` is only what the architecture is described
    /// with; nothing is computed on it.
    pub fn write<B: Backend>(&self, model: &Path, out: &Path) -> Result<PackReport> {
        self.write_and_tell::<B>(model, out, |_| {})
    }

    /// The same; tells how far it has come whenever it begins with another part of the model.
    pub fn write_and_tell<B: Backend>(
        &self,
        model: &Path,
        out: &Path,
        mut tell: impl FnMut(&PackProgress<'_>),
    ) -> Result<PackReport> {
        let target = Target::new(out, model)?;
        let config_path = model.join(CONFIG);
        let text = config::read(&config_path)?;
        let config = Config::parse(&config_path, &text)?;
        let unusable = |path: &Path, reason: String| Error::Unsupported { path: path.to_owned(), reason };
        if let Some(format) = config.format() {
            let reason = format!("the checkpoint is packed already ({format}); pack the one that it was made of");
            return Err(unusable(&config_path, reason));
        }
        let decoder = decoder::open::<B>(&text).map_err(|error| Error::Config { path: config_path.clone(), error })?;
        let checkpoint = Checkpoint::open(model)?;
        let outline = decoder.outline(config.tied(&config_path)?, &B::Device::default());
        Units::cut(&checkpoint, &outline, None)?;
        let contents = Contents::new(&checkpoint, &outline, self.format)?;
        if contents.items().all(|item| item.packed.is_none()) {
            let format = self.format;
            let reason =
                format!("no linear layer has rows of a multiple of 32 weights, as {format} needs; run it as it is");
            return Err(unusable(model, reason));
        }

        let source = self.source(&checkpoint)?;
        let shards = Shard::divide(&contents.parts, self.max_shard_size, &source);
        let small = small_files(model)?;
        let last = [index(&shards), self.config(config.json())];
        let mut whole = target.survey(&shards, &small, &last, &source)?;
        let kept_shards = whole.iter().flatten().count();
        let missing = || shards.iter().zip(&whole).filter(|(_, whole)| whole.is_none()).map(|(shard, _)| shard.len);
        let total: u64 = missing().sum();
        let files = small.iter().chain(&last).filter(|file| !target.has(&file.name));
        let files: u64 = files.map(|file| file.bytes.len() as u64).sum();
        let _lock = target.lock()?;
        target.remove_partial()?;
        target.check_space(total + files)?;
        if total > 0 {
            last.iter().rev().try_for_each(|file| target.remove(&file.name))?;
        }
        let mut done = 0;
        for (shard, whole) in shards.iter().zip(&mut whole).filter(|(_, whole)| whole.is_none()) {
            let tell = |part: &str, written| tell(&PackProgress { part, done: done + written, total });
            *whole = Some(target.whole(&shard.name, |path| shard.write(path, &checkpoint, tell))?);
            done += shard.len;
        }
        checkpoint.shards().iter().try_for_each(|shard| shard.check_unchanged())?;
        for file in small.iter().chain(&last).filter(|file| !target.has(&file.name)) {
            target.whole(&file.name, |path| file.write(path))?;
        }
        let deviation = whole.into_iter().flatten().fold(Deviation::default(), |sum, shard| sum + shard);
        Ok(self.report(&checkpoint, &contents, deviation, [shards.len(), kept_shards]))
    }

    fn report(
        &self,
        checkpoint: &Checkpoint,
        contents: &Contents,
        deviation: Deviation,
        [shards, kept_shards]: [usize; 2],
    ) -> PackReport {
        let packed = || contents.items().filter_map(|item| Some((item, item.packed?.1)));
        let packed_weights = packed().map(|(_, [rows, columns])| (rows * columns) as u64).sum();
        let packed_bytes: u64 = packed().map(|(item, _)| item.len()).sum();
        PackReport {
            format: self.format.name(),
            source_bytes: checkpoint.bytes(),
            bytes: contents.items().map(|item| item.len()).sum(),
            packed_matrices: packed().count(),
            dense_matrices: contents.dense_matrices,
            packed_weights,
            bits_per_weight: 8.0 * packed_bytes as f64 / packed_weights as f64,
            relative_error: deviation.relative(),
            shards,
            kept_shards,
        }
    }

    /// What tells a shard that was packed from these files in this format from any other.
    fn source(&self, checkpoint: &Checkpoint) -> Result<String> {
        let file = |path: &Path| {
            let metadata = fs::metadata(path).at(path)?;
            let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Ok(json!([name, metadata.len(), modified.map_or(0, |time| time.as_nanos() as u64)]))
        };
        let files = checkpoint.shards().iter().map(|shard| file(shard.path())).collect::<Result<Vec<_>>>()?;
        Ok(json!({ "format": self.format.name(), "files": files }).to_string())
    }

    /// The source's config with an entry of the format.
    fn config(&self, config: &Value) -> SmallFile {
        let mut config = config.clone();
        config["quantization_config"] = quantization_config::write(self.format);
        SmallFile { name: CONFIG.to_owned(), bytes: format!("{config:#}\n").into_bytes() }
    }
}

const CONFIG: &str = "config.json";
const INDEX: &str = "model.safetensors.index.json";

fn index(shards: &[Shard]) -> SmallFile {
    let total: u64 = shards.iter().map(|shard| shard.len - shard.header.len() as u64).sum();
    let places = shards.iter().flat_map(|shard| shard.tensors().map(|name| (name.to_owned(), json!(shard.name))));
    let mut places: Vec<_> = places.collect();
    places.sort_by(|a, b| a.0.cmp(&b.0));
    let json = json!({ "metadata": { "total_size": total }, "weight_map": Map::from_iter(places) });
    SmallFile { name: INDEX.to_owned(), bytes: format!("{json:#}\n").into_bytes() }
}

/// What of a checkpoint's directory goes along: tokenizer, generation config, chat templates and the like.
fn small_files(model: &Path) -> Result<Vec<SmallFile>> {
    /// Larger files are weights in another form.
    const LARGEST: u64 = 64 << 20;
    const WEIGHTS: [&str; 9] = ["safetensors", "bin", "pt", "pth", "ckpt", "gguf", "h5", "msgpack", "onnx"];
    let mut files = Vec::new();
    for entry in fs::read_dir(model).at(model)? {
        let path = entry.at(model)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let of_weights = WEIGHTS.contains(&extension.as_str()) || name.ends_with(".index.json");
        // A link to what is not there is nothing to copy.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let small = metadata.is_file() && metadata.len() <= LARGEST;
        if small && !of_weights && name != CONFIG && !name.starts_with('.') {
            files.push(SmallFile { bytes: read_small(&path).at(&path)?, name });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}
