use leveret_models::layers::Experts;
use leveret_models::{LayerEmbedding, Names, Slice, Source};

/// A parameter as the model declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// Name within its layer or head.
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// Whether it is the matrix of a linear layer, which a checkpoint may have packed.
    pub(crate) packable: bool,
    /// Whether what is used is a copy of it, written anew.
    pub(crate) rewritten: bool,
    /// Which tensor it is, or which rows of one.
    pub(crate) source: Source,
}

impl Parameter {
    /// A parameter that is a tensor of its own name.
    pub(crate) fn new(name: String, shape: Vec<usize>) -> Self {
        let source = Source { tensor: name.clone(), slice: None, outside: false };
        Self { name, shape, packable: false, rewritten: false, source }
    }

    /// The shape of its tensor.
    pub(crate) fn tensor_shape(&self) -> Vec<usize> {
        let rows = self.slice().map(|slice| slice.of);
        rows.into_iter().chain(self.shape.iter().skip(usize::from(rows.is_some())).copied()).collect()
    }

    /// Rows and columns of its tensor, if that may be packed.
    pub(crate) fn matrix(&self) -> Option<[usize; 2]> {
        self.tensor_shape().try_into().ok().filter(|_| self.packable)
    }

    /// The rows of its tensor that it is, if not all.
    pub(crate) fn slice(&self) -> Option<&Slice> {
        self.source.slice.as_ref()
    }
}

/// What a model needs from a checkpoint, part by part.
#[derive(Debug)]
pub(crate) struct Outline {
    pub(crate) names: Names,
    /// Rows and columns of the embedding.
    pub(crate) embedding: [usize; 2],
    /// The embedding that layers read of beside hidden states, if there is one.
    pub(crate) layer_embedding: Option<LayerEmbedding>,
    pub(crate) layers: Vec<Vec<Parameter>>,
    /// Layer by layer, its experts and the parameters of each of them, if it has some.
    pub(crate) experts: Vec<Option<(Experts, Vec<Parameter>)>>,
    /// Parameters of the final norm and the whole head.
    pub(crate) head: Vec<Parameter>,
    /// Layers behind the last that a checkpoint may have, and nobody needs.
    pub(crate) unused_layers: usize,
    /// Whether the head may be the embedding.
    pub(crate) tied: bool,
}

impl Outline {
    /// Whether a layer is one of those behind the last.
    pub(crate) fn is_unused(&self, layer: usize) -> bool {
        let layers = self.layers.len();
        (layers..layers.saturating_add(self.unused_layers)).contains(&layer)
    }
}
