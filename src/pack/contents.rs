use std::collections::HashSet;

use leveret_models::weight::Format;

use crate::checkpoint::{Checkpoint, TensorEntry};
use crate::error::Result;
use crate::unit::{Outline, Parameter, Places, part_of, place};

/// What a packed checkpoint is made of, in the order of a pass.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) parts: Vec<ModelPart>,
    /// Matrices of linear layers that cannot be packed.
    pub(super) dense_matrices: usize,
}

/// A layer, the head, or what is beside them.
#[derive(Debug, Clone)]
pub(super) struct ModelPart {
    pub(super) title: String,
    pub(super) items: Vec<Item>,
}

/// A tensor of the source, and what becomes of it.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Its new name.
    pub(super) name: String,
    pub(super) entry: TensorEntry,
    /// How it is packed, and its rows and columns; copied if not.
    pub(super) packed: Option<(Format, [usize; 2])>,
}

/// One new tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewTensor {
    pub(super) name: String,
    /// In safetensors' words.
    pub(super) dtype: String,
    pub(super) shape: Vec<usize>,
    pub(super) len: u64,
}

impl Contents {
    /// What the architecture says of the checkpoint's tensors: matrices of linear layers are packed, all else is copied.
    pub(super) fn new(checkpoint: &Checkpoint, outline: &Outline, format: Format) -> Result<Self> {
        let places = Places::find(checkpoint, outline)?;
        let (mut used, mut named, mut dense_matrices) = (HashSet::new(), HashSet::new(), 0);
        // Matrices that lie in one tensor are packed as one, if blocks that share a scale do not reach over them.
        let torn = |parameter: &Parameter| {
            parameter.slice().is_some_and(|slice| !slice.rows.start.is_multiple_of(format.block_rows()))
        };
        let parameters = (0..outline.layers.len()).flat_map(|index| places.layer(outline, index));
        let torn: HashSet<_> = parameters.filter(|(_, parameter)| torn(parameter)).map(|(name, _)| name).collect();
        let mut item = |name: String, source: &str, parameter: &Parameter| {
            used.insert(source.to_owned());
            // A tensor of several parameters is told of once.
            let first = named.insert(name.clone());
            let fits = |shape: &[usize; 2]| format.suits(*shape) && !torn.contains(source);
            let packed = parameter.matrix().filter(fits).map(|shape| (format, shape));
            dense_matrices += usize::from(first && parameter.packable && packed.is_none());
            // All of them were found before.
            checkpoint.get(source).filter(|_| first).map(|entry| Item { name, entry: entry.clone(), packed })
        };
        // An embedding that also is the head stays as it is, and a packed head comes beside it.
        let tied = places.embedding == places.head;
        let own_embedding = if tied { places.own_embedding(outline) } else { places.embedding.clone() };
        let shape = outline.embedding.to_vec();
        let embedding = Parameter::new(own_embedding.clone(), shape);
        let mut outer: Vec<_> = item(own_embedding, &places.embedding, &embedding).into_iter().collect();
        let layer_embedding = places.layer_embedding(outline);
        outer.extend(layer_embedding.and_then(|it| item(it.name.clone(), &it.name, &it)));
        let layer = |index: usize| {
            let items =
                places.layer(outline, index).filter_map(|(name, parameter)| item(name.clone(), &name, parameter));
            let layer = ModelPart { title: format!("layer {index}"), items: items.collect() };
            std::iter::once(layer).chain(experts(checkpoint, outline, &places, index, &mut item)).collect::<Vec<_>>()
        };
        let mut parts: Vec<_> = (0..outline.layers.len()).flat_map(layer).collect();
        let head = places.head(outline).filter_map(|(name, parameter)| match tied && name == places.head {
            true => item(Places::own_head(outline), &name, parameter).filter(|item| item.packed.is_some()),
            false => item(name.clone(), &name, parameter),
        });
        parts.push(ModelPart { title: "the head".to_owned(), items: head.collect() });

        let mut rest: Vec<_> = checkpoint.names().filter(|name| !used.contains(*name)).collect();
        rest.sort_unstable();
        let rest = rest.into_iter().filter_map(|name| {
            let entry = checkpoint.get(name)?.clone();
            Some(Item { name: name.to_owned(), entry, packed: None })
        });
        let items = outer.into_iter().chain(rest).collect();
        parts.insert(0, ModelPart { title: "the embedding".to_owned(), items });
        Ok(Self { parts, dense_matrices })
    }

    pub(super) fn items(&self) -> impl Iterator<Item = &Item> {
        self.parts.iter().flat_map(|part| &part.items)
    }
}

/// The experts of a layer, each a part of its own, so that it is read in one go.
///
/// Matrices that lie in one tensor for all experts get tensors of their own, if there is a spelling for these; else that
/// tensor goes along whole, with the rest.
fn experts(
    checkpoint: &Checkpoint,
    outline: &Outline,
    places: &Places,
    layer: usize,
    item: &mut impl FnMut(String, &str, &Parameter) -> Option<Item>,
) -> Vec<ModelPart> {
    let Some((experts, parameters)) = &outline.experts[layer] else { return Vec::new() };
    let prefix = places.layer_prefix(outline, layer);
    let mut part = |expert: usize| {
        let of_expert = |parameter: &Parameter| {
            let all = experts.places(expert, &parameter.name);
            let own = all.first().filter(|place| place.part.is_none())?;
            let at = place(checkpoint, &prefix, &all)?;
            let (new, source) = (format!("{prefix}{}", own.tensor), format!("{prefix}{}", at.tensor));
            match &at.part {
                None => item(source.clone(), &source, parameter),
                Some(part) => {
                    let mut item = item(new, &source, parameter)?;
                    item.entry = part_of(&item.entry, part, &parameter.shape);
                    Some(item)
                }
            }
        };
        let items = parameters.iter().filter_map(of_expert).collect();
        ModelPart { title: format!("expert {expert} of layer {layer}"), items }
    };
    (0..experts.count).map(&mut part).filter(|part| !part.items.is_empty()).collect()
}

impl Item {
    /// Its new tensors: codes and scales, or itself.
    pub(super) fn tensors(&self) -> Vec<NewTensor> {
        match self.packed {
            Some((format, shape)) => {
                let tensor = |part: leveret_models::weight::Part| NewTensor {
                    name: format!("{}{}", self.name, part.suffix),
                    dtype: part.stored.to_owned(),
                    shape: part.shape.to_vec(),
                    len: part.len() as u64,
                };
                format.parts(shape).map(tensor).to_vec()
            }
            None => {
                let (dtype, shape) = (self.entry.stored(), self.entry.shape.clone());
                vec![NewTensor { name: self.name.clone(), dtype, shape, len: self.entry.len }]
            }
        }
    }

    /// Bytes of its new tensors.
    pub(super) fn len(&self) -> u64 {
        self.tensors().iter().map(|tensor| tensor.len).sum()
    }
}
