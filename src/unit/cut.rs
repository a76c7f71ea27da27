use std::collections::HashSet;
use std::ops::Range;

use burn::tensor::DType;
use leveret_models::Names;

use super::layout::lay_out;
use super::{Unit, UnitKind};
use crate::checkpoint::{Checkpoint, TensorEntry};
use crate::error::{Error, Result};

/// A parameter as the model declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// Name within its layer or head.
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
}

/// What a model needs from a checkpoint, part by part.
#[derive(Debug)]
pub(crate) struct Outline {
    pub(crate) names: Names,
    /// Rows and columns of the embedding.
    pub(crate) embedding: [usize; 2],
    pub(crate) layers: Vec<Vec<Parameter>>,
    /// Parameters of the final norm and the whole head.
    pub(crate) head: Vec<Parameter>,
    /// Whether the head may be the embedding.
    pub(crate) tied: bool,
}

/// A model's checkpoint, cut.
#[derive(Debug)]
pub(crate) struct Units {
    /// The embedding, of which rows are gathered.
    pub(crate) embedding: TensorEntry,
    pub(crate) embedding_dtype: DType,
    /// The layers, then the parts of the head, in the order of a pass.
    pub(crate) units: Vec<Unit>,
}

impl Units {
    /// Finds every parameter of `outline` in the checkpoint, checks shapes and dtypes, and lays the units out.
    pub(crate) fn cut(checkpoint: &Checkpoint, outline: &Outline) -> Result<Self> {
        let mut finder = Finder::new(checkpoint, outline)?;
        let (embedding, embedding_dtype) = {
            let name = finder.embedding.clone();
            let [rows, columns] = outline.embedding;
            finder.find(&name, &[rows, columns])?
        };
        let mut units = Vec::new();
        for (index, parameters) in outline.layers.iter().enumerate() {
            let found = parameters.iter().map(|parameter| {
                let name = format!("{}{}.{index}.{}", finder.prefix, outline.names.layers, parameter.name);
                Ok((parameter.name.clone(), finder.find(&name, &parameter.shape)?))
            });
            units.push(lay_out(UnitKind::Layer(index), found.collect::<Result<_>>()?));
        }
        units.extend(finder.head(outline, &units)?);
        finder.refuse_extra_tensors(outline)?;
        Ok(Self { embedding, embedding_dtype, units })
    }
}

/// A checkpoint entry and the dtype to compute with.
pub(super) type Found = (TensorEntry, DType);

struct Finder<'a> {
    checkpoint: &'a Checkpoint,
    /// What this checkpoint puts before the decoder's names.
    prefix: String,
    embedding: String,
    head: String,
    used: HashSet<String>,
}

impl<'a> Finder<'a> {
    fn new(checkpoint: &'a Checkpoint, outline: &Outline) -> Result<Self> {
        let names = &outline.names;
        let has = |name: &str| checkpoint.get(name).is_some();
        let named = |prefix: &str| format!("{prefix}{}", names.embedding);
        let weight = |name: &str| format!("{name}.weight");
        // A model with a head, a bare decoder, and the text part of multimodal ones.
        let prefixes = [names.prefix, "", "language_model.model.", "model.language_model."];
        let some_layer =
            |prefix: &str| checkpoint.names().any(|name| name.starts_with(&format!("{prefix}{}.", names.layers)));
        let prefix = prefixes.into_iter().find(|prefix| has(&named(prefix)));
        let prefix = prefix.or_else(|| prefixes.into_iter().find(|prefix| some_layer(prefix))).unwrap_or(names.prefix);

        let heads = [weight(names.head), format!("language_model.{}", weight(names.head))];
        let own_head = heads.iter().find(|name| has(name)).cloned();
        let embedding = named(prefix);
        // A head in the file wins over what the config says; a tied embedding may be saved under the head's name.
        let (embedding, head) = match (own_head, outline.tied) {
            (Some(head), true) if !has(&embedding) => (head.clone(), head),
            (Some(head), _) => (embedding, head),
            (None, true) => (embedding.clone(), embedding),
            (None, false) => {
                let hint = "config.json does not say tie_word_embeddings: true, so the head must be in the checkpoint";
                let (path, tensor) = (checkpoint.dir().to_owned(), heads[0].clone());
                return Err(Error::MissingTensor { path, tensor, hint: hint.to_owned() });
            }
        };
        Ok(Self { checkpoint, prefix: prefix.to_owned(), embedding, head, used: HashSet::new() })
    }

    fn find(&mut self, name: &str, shape: &[usize]) -> Result<Found> {
        let Some(entry) = self.checkpoint.get(name) else {
            let path = self.checkpoint.dir().to_owned();
            let hint = "check that the checkpoint is whole and belongs to config.json".to_owned();
            return Err(Error::MissingTensor { path, tensor: name.to_owned(), hint });
        };
        if entry.shape != shape {
            return Err(Error::Shape {
                path: self.checkpoint.path(entry).to_owned(),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                found: entry.shape.clone(),
            });
        }
        self.used.insert(name.to_owned());
        Ok((entry.clone(), self.checkpoint.float_dtype(name, entry)?))
    }

    /// The head in parts no larger than the largest layer, so that it never decides how much memory is needed.
    fn head(&mut self, outline: &Outline, layers: &[Unit]) -> Result<Vec<Unit>> {
        let mut norm = Vec::new();
        let mut rows = Vec::new();
        for parameter in &outline.head {
            let (part, rest) = parameter.name.split_once('.').unwrap_or((&parameter.name, ""));
            let is_norm = part == "norm";
            let name = match (is_norm, rest) {
                (true, rest) => format!("{}{}.{rest}", self.prefix, outline.names.norm),
                (false, "weight") => self.head.clone(),
                (false, rest) => format!("{}.{rest}", outline.names.head),
            };
            let found = (parameter.name.clone(), self.find(&name, &parameter.shape)?);
            if is_norm { norm.push(found) } else { rows.push(found) }
        }
        let vocab_size = outline.embedding[0];
        let bytes: u64 = rows.iter().map(|(_, (entry, _))| entry.len).sum();
        let largest = layers.iter().map(|unit| unit.bytes()).max().unwrap_or(bytes).max(1);
        let height = vocab_size.div_ceil(bytes.div_ceil(largest).max(1) as usize);
        let parts = (0..vocab_size).step_by(height).map(|start| start..(start + height).min(vocab_size));
        Ok(parts
            .map(|part| {
                let slices = rows.iter().map(|(name, (entry, dtype))| (name.clone(), (slice(entry, &part), *dtype)));
                let tensors = if part.start == 0 { norm.clone() } else { Vec::new() };
                lay_out(UnitKind::Head(part.clone()), tensors.into_iter().chain(slices).collect())
            })
            .collect())
    }

    /// A tensor of the language model that no parameter wants means that the config describes another model.
    fn refuse_extra_tensors(&self, outline: &Outline) -> Result<()> {
        let head = format!("{}.", outline.names.head);
        // A multimodal checkpoint has towers that are none of the decoder's business.
        let wrapped = self.prefix.contains("language_model");
        let ours = |name: &str| !wrapped || name.starts_with(&self.prefix) || name.starts_with(&head);
        // Tables that old checkpoints saved though they follow from the config.
        let ignored = |name: &str| name.ends_with("rotary_emb.inv_freq");
        let mut extra: Vec<_> =
            self.checkpoint.names().filter(|name| ours(name) && !ignored(name) && !self.used.contains(*name)).collect();
        extra.sort_unstable();
        match extra.first().and_then(|name| Some((name, self.checkpoint.get(name)?))) {
            Some((name, entry)) => {
                Err(Error::ExtraTensor { path: self.checkpoint.path(entry).to_owned(), tensor: (*name).to_owned() })
            }
            None => Ok(()),
        }
    }
}

/// Some rows of a tensor, as a range of its bytes.
fn slice(entry: &TensorEntry, rows: &Range<usize>) -> TensorEntry {
    let row = entry.len / entry.shape[0].max(1) as u64;
    let mut shape = entry.shape.clone();
    shape[0] = rows.len();
    TensorEntry { offset: entry.offset + rows.start as u64 * row, len: rows.len() as u64 * row, shape, ..entry.clone() }
}
