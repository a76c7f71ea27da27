use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path};

use serde::Deserialize;

use super::{TensorEntry, header};
use crate::error::{AtPath, Error, Result};
use crate::io::{ComingFiles, WeightFile, read_text};

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    /// Tensor → file name.
    weight_map: BTreeMap<String, String>,
}

/// Opens the shards that an index names; a tensor exists if the index says so and lies where it says.
pub(super) fn open(path: &Path, coming: &ComingFiles) -> Result<(Vec<WeightFile>, HashMap<String, TensorEntry>)> {
    let text = read_text(path).at(path)?;
    let Index { weight_map } = serde_json::from_str(&text)
        .map_err(|error| Error::Json { path: path.to_owned(), reason: error.to_string() })?;
    let mut by_shard = BTreeMap::<String, Vec<String>>::new();
    for (tensor, shard) in weight_map {
        by_shard.entry(shard).or_default().push(tensor);
    }

    let (mut shards, mut tensors) = (Vec::new(), HashMap::new());
    for (shard, names) in by_shard {
        let file = open_shard(path, &shard, coming)?;
        let mut entries = header::read(&file, shards.len())?;
        for name in names {
            let Some(entry) = entries.remove(&name) else {
                let hint = format!("{} says it is there; download both again", path.display());
                return Err(Error::MissingTensor { path: file.path().to_owned(), tensor: name, hint });
            };
            tensors.insert(name, entry);
        }
        shards.push(file);
    }
    Ok((shards, tensors))
}

/// Opens a file beside the index; a name that leads elsewhere is as good as a missing one.
fn open_shard(index: &Path, shard: &str, coming: &ComingFiles) -> Result<WeightFile> {
    if let Some(coming) = coming.get(shard) {
        return Ok(WeightFile::coming(&index.with_file_name(shard), coming.clone()));
    }
    let inside = Path::new(shard).components().all(|part| matches!(part, Component::Normal(_)));
    let path = index.with_file_name(shard);
    match inside && !shard.is_empty() && path.is_file() {
        true => WeightFile::open(&path),
        false => Err(Error::MissingShard { index: index.to_owned(), shard: shard.to_owned() }),
    }
}
