use burn::tensor::DType;
use leveret_models::weight::Format;

use super::find::{Array, Finder};
use super::layout::lay_out;
use super::{Outline, Parameter, Places, Unit, UnitKind};
use crate::checkpoint::{Checkpoint, TensorEntry};
use crate::error::{Error, Result};

/// A model's checkpoint, cut.
#[derive(Debug)]
pub(crate) struct Units {
    /// The embedding, of which rows are gathered.
    pub(crate) embedding: TensorEntry,
    pub(crate) embedding_dtype: DType,
    /// The embedding that layers read of beside hidden states, with its dtype.
    pub(crate) layer_embedding: Option<(TensorEntry, DType)>,
    /// The layers, then the parts of the head, in the order of a pass.
    pub(crate) units: Vec<Unit>,
    /// Layer by layer, the experts that its tokens choose among; none where a layer has no such.
    pub(crate) experts: Vec<Vec<Unit>>,
}

impl Units {
    /// Finds every parameter of `outline` in the checkpoint, checks shapes and dtypes, and lays the units out.
    ///
    /// Matrices of linear layers may be packed in `format`.
    pub(crate) fn cut(checkpoint: &Checkpoint, outline: &Outline, format: Option<Format>) -> Result<Self> {
        let places = Places::find(checkpoint, outline)?;
        let mut finder = Finder::new(checkpoint, format);
        let shape = outline.embedding.to_vec();
        let embedding = Parameter::new(places.embedding.clone(), shape);
        let (embedding, embedding_dtype) = finder.floats(&places.embedding, &embedding)?;
        let layer_embedding =
            places.layer_embedding(outline).map(|parameter| finder.floats(&parameter.name, &parameter));
        let layer_embedding = layer_embedding.transpose()?;
        let mut units = Vec::new();
        for index in 0..outline.layers.len() {
            let mut found = Vec::new();
            for (name, parameter) in places.layer(outline, index) {
                let arrays = finder.parameter(&name, parameter)?.into_iter();
                found.extend(arrays.map(|array| (array.name, array.found)));
            }
            let mut unit = lay_out(UnitKind::Layer(index), found);
            let rewritten = |name: &str| outline.layers[index].iter().any(|it| it.rewritten && it.name == name);
            unit.tensors.iter_mut().for_each(|tensor| tensor.rewritten = rewritten(&tensor.parameter));
            units.push(unit);
        }
        let experts = (0..outline.layers.len()).map(|layer| experts(&mut finder, &places, outline, layer));
        let experts = experts.collect::<Result<_>>()?;
        let (mut norm, mut rows) = (Vec::new(), Vec::new());
        for (name, parameter) in places.head(outline) {
            let arrays = finder.parameter(&name, parameter)?;
            if parameter.is_norm() { norm.extend(arrays) } else { rows.extend(arrays) }
        }
        units.extend(head(outline.embedding[0], &norm, &rows, &units));
        refuse_extra_tensors(checkpoint, outline, &places, &finder)?;
        Ok(Self { embedding, embedding_dtype, layer_embedding, units, experts })
    }
}

/// The experts of a layer, each cut out for itself.
fn experts(finder: &mut Finder<'_>, places: &Places, outline: &Outline, layer: usize) -> Result<Vec<Unit>> {
    let Some((experts, parameters)) = &outline.experts[layer] else { return Ok(Vec::new()) };
    let prefix = places.layer_prefix(outline, layer);
    let unit = |expert: usize| {
        let mut found = Vec::new();
        for parameter in parameters {
            let arrays = finder.placed(&prefix, &experts.places(expert, &parameter.name), parameter)?;
            found.extend(arrays.into_iter().map(|array| (array.name, array.found)));
        }
        Ok(lay_out(UnitKind::Expert { layer, expert }, found))
    };
    (0..experts.count).map(unit).collect()
}

/// The head in parts no larger than the largest layer, so that it never decides how much memory is needed.
fn head(vocab_size: usize, norm: &[Array], rows: &[Array], layers: &[Unit]) -> Vec<Unit> {
    let bytes: u64 = rows.iter().map(|array| array.found.0.len).sum();
    let largest = layers.iter().map(|unit| unit.bytes()).max().unwrap_or(bytes).max(1);
    let block = rows.iter().map(Array::block_rows).max().unwrap_or(1);
    let height = vocab_size.div_ceil(bytes.div_ceil(largest).max(1) as usize);
    // Blocks that share a scale stay whole, if that takes a part no larger than one of them.
    let height = (height / block * block).max(block);
    let parts = (0..vocab_size).step_by(height).map(|start| start..(start + height).min(vocab_size));
    let unit = |part: std::ops::Range<usize>| {
        let slices = rows.iter().map(|array| array.slice(&part));
        let norm = norm.iter().filter(|_| part.start == 0).map(|array| (array.name.clone(), array.found.clone()));
        lay_out(UnitKind::Head(part.clone()), norm.chain(slices).collect())
    };
    parts.map(unit).collect()
}

/// A tensor of the language model that no parameter wants means that the config describes another model.
fn refuse_extra_tensors(
    checkpoint: &Checkpoint,
    outline: &Outline,
    places: &Places,
    finder: &Finder<'_>,
) -> Result<()> {
    // Tables that old checkpoints saved though they follow from the config.
    let ignored = |name: &str| outline.names.ignored.iter().any(|end| name.ends_with(end));
    let unused = |name: &str| places.layer_of(outline, name).is_some_and(|layer| outline.is_unused(layer));
    let begins = |name: &str| outline.names.unused.iter().any(|it| name.starts_with(it));
    let named = |name: &str| begins(name) || places.rest(name).is_some_and(begins);
    let ignored = |name: &str| ignored(name) || unused(name) || named(name);
    let extra = |name: &&str| places.owns(name, outline) && !ignored(name) && !finder.has_used(name);
    match checkpoint.names().filter(extra).min().and_then(|name| Some((name, checkpoint.get(name)?))) {
        Some((name, entry)) => {
            Err(Error::ExtraTensor { path: checkpoint.path(entry).to_owned(), tensor: name.to_owned() })
        }
        None => Ok(()),
    }
}
