//! Packed checkpoints: what packing writes, what it refuses, and that packed weights run like any others.

mod errors;
mod packing;
mod refusals;
mod running;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::backend::Flex;
use leveret::models::weight::Format;
use leveret::{Pack, PackReport};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tempfile::TempDir;

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq)]
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn pack(dir: &Path, out: &Path, format: Format) -> leveret::Result<PackReport> {
    Pack::new(format).write::<Flex>(dir, out)
}

/// A packed copy.
fn packed(dir: &Path, format: Format) -> TempDir {
    let out = tempfile::tempdir().unwrap();
    pack(dir, out.path(), format).unwrap();
    out
}

/// All tensors in the safetensors files of a directory, references aside.
fn tensors(dir: &Path) -> BTreeMap<String, Stored> {
    let mut tensors = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let is_reference = path.file_name().is_some_and(|name| name == "reference.safetensors");
        if path.extension().is_some_and(|extension| extension == "safetensors") && !is_reference {
            let bytes = fs::read(&path).unwrap();
            for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
                let (dtype, shape, bytes) = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
                tensors.insert(name.to_owned(), Stored { dtype, shape, bytes });
            }
        }
    }
    tensors
}

/// Writes a checkpoint of one file.
fn write(dir: &Path, tensors: &BTreeMap<String, Stored>, config: &Value) {
    let views = tensors.iter().map(|(name, of)| {
        let view = TensorView::new(of.dtype, of.shape.clone(), &of.bytes).unwrap();
        (name, view)
    });
    safetensors::serialize_to_file(views.collect::<Vec<_>>(), None, &dir.join("model.safetensors")).unwrap();
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

fn config(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap()
}

/// A checkpoint of the f32 that packed weights stand for.
fn unpacked(dir: &Path, format: Format) -> TempDir {
    let mut all = tensors(dir);
    let suffix = format.parts([1, 32])[1].suffix;
    let scaled = all.keys().filter_map(|name| name.strip_suffix(suffix));
    // A model may have scales of its own.
    let matrices: Vec<String> = scaled.filter(|name| all.contains_key(*name)).map(str::to_owned).collect();
    assert!(!matrices.is_empty());
    for name in matrices {
        let scales = all.remove(&format!("{name}{suffix}")).unwrap();
        let codes = all.get_mut(&name).unwrap();
        if format == Format::Int4 {
            codes.shape[1] *= 2;
        }
        let weights = format.unpack([&codes.bytes, &scales.bytes], codes.shape.as_slice().try_into().unwrap());
        codes.bytes = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        codes.dtype = Dtype::F32;
    }
    let mut config = config(dir);
    config.as_object_mut().unwrap().remove("quantization_config").unwrap();
    let out = tempfile::tempdir().unwrap();
    write(out.path(), &all, &config);
    out
}
