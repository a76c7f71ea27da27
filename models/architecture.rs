use burn::module::Module;
use burn::prelude::Tensor;
use serde::de::DeserializeOwned;

use crate::Backend;
use crate::config::{ConfigError, DecoderConfig};
use crate::layers::{Experts, Head, RopeParameters, StateShape, Step};
use crate::weight_map::WeightMap;

/// A decoder-only language model, described one layer at a time.
///
/// A value of the implementing type is the parsed `config.json`. It never holds weights: the engine decides which
/// layers exist and when.
pub trait Architecture: DeserializeOwned + Send + Sync + 'static {
    /// What people call the family.
    const FAMILY: &'static str;
    /// `model_type` values of `config.json` that this architecture serves.
    const MODEL_TYPES: &'static [&'static str];
    /// Whether the head is the embedding matrix when `config.json` does not say.
    const TIED_BY_DEFAULT: bool = false;
    /// One decoder layer. Its field names are the checkpoint's names.
    type Layer<B: Backend>: DecoderLayer<B> + Module<B>;

    /// The fields that most families share, with this family's defaults filled in.
    fn config(&self) -> &DecoderConfig;

    /// Refuses values of `config.json` that no layer of this family can honour.
    fn check(&self) -> Result<(), ConfigError> {
        self.config().check()
    }

    /// Sizes that the engine needs to plan memory.
    fn dims(&self) -> Dims {
        self.config().dims()
    }

    /// The rotary position embedding, shared by all layers where [`layer_rope`](Self::layer_rope) says nothing else.
    fn rope(&self) -> RopeParameters {
        self.config().rope()
    }

    /// The rotary position embedding of layer `index`.
    fn layer_rope(&self, index: usize) -> RopeParameters {
        let _ = index;
        self.rope()
    }

    /// The length beyond which all keys are computed anew, if the rotation changes there.
    fn recomputes_beyond(&self) -> Option<usize> {
        None
    }

    /// The number of positions, itself included, that a query of layer `index` sees; all of them by default.
    fn sliding_window(&self, index: usize) -> Option<usize> {
        let _ = index;
        None
    }

    /// The state that layer `index` keeps in the place of keys and values, if it does.
    fn state(&self, index: usize) -> Option<StateShape> {
        let _ = index;
        None
    }

    /// Builds layer `index` on `device`, its parameters not yet loaded.
    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> Self::Layer<B>;

    /// Builds `rows` rows of the head on `device`, its parameters not yet loaded; the final norm too if `norm`.
    fn head<B: Backend>(&self, rows: usize, norm: bool, device: &B::Device) -> Head<B> {
        self.config().head(rows, norm, device)
    }

    /// The layer whose keys and values layer `index` reads: its own, unless it makes none.
    fn kv_layer(&self, index: usize) -> usize {
        index
    }

    /// A second embedding, of which layers read beside hidden states, if there is one.
    fn layer_embedding(&self) -> Option<LayerEmbedding> {
        None
    }

    /// The experts that tokens choose among in layer `index`, if it has some; each is a unit of its own.
    fn experts(&self, index: usize) -> Option<Experts> {
        let _ = index;
        None
    }

    /// Layers that a checkpoint may have behind the last and that no pass needs.
    fn unused_layers(&self) -> usize {
        0
    }

    /// Where the checkpoint keeps the parts of the model.
    fn names(&self) -> Names {
        Names::default()
    }

    /// Where it keeps those parameters of a layer that it names otherwise than the module does.
    fn weight_map(&self) -> WeightMap {
        WeightMap::default()
    }
}

/// One layer of a decoder: hidden states in, hidden states out.
pub trait DecoderLayer<B: Backend>: Send {
    /// Runs the layer over `x: [batch, seq, hidden_size]` and adds to its cache; what experts are to add to the
    /// result it leaves in the step.
    fn forward(&self, x: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3>;

    /// Ends a layer that left something to experts, which made `mixture` of it; `inputs` are the step's `layer_inputs`.
    ///
    /// Shapes: `x`, as the layer left it, `mixture` and the result `[batch, seq, hidden_size]`.
    fn finish(&self, x: Tensor<B, 3>, mixture: Tensor<B, 3>, inputs: Option<&Tensor<B, 3>>) -> Tensor<B, 3> {
        let _ = inputs;
        x + mixture
    }
}

/// Sizes of a decoder that do not depend on its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dims {
    /// Decoder layers.
    pub num_layers: usize,
    /// Width of the embedding and of the head's rows.
    pub embedding_size: usize,
    /// Width of the hidden states that go from layer to layer.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads.
    pub num_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Numbers that the KV cache of a layer holds of one position.
    pub kv_len: usize,
    /// The longest sequence the model was made for, RoPE scaling included.
    pub max_positions: usize,
    /// Whether attention does more to scores than scale them, cap them, and mask them by order and a window;
    /// sinks do not count.
    pub shapes_scores: bool,
}

/// A second embedding, of which layers read beside hidden states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerEmbedding {
    /// Its tensor, behind the prefix.
    pub name: &'static str,
    /// Its rows; ids beyond them have the first.
    pub rows: usize,
    /// Numbers of a row, those of all layers.
    pub width: usize,
}

/// The checkpoint's names of a model's parts, as the model with a head saves them.
///
/// The parameters of layer `i` follow `{layers}.{i}.`; a checkpoint of the bare decoder leaves `prefix` out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// What stands before every name but the head's.
    pub prefix: &'static str,
    /// The embedding matrix.
    pub embedding: &'static str,
    /// The list of decoder layers.
    pub layers: &'static str,
    /// The final norm.
    pub norm: &'static str,
    /// The head; never prefixed.
    pub head: &'static str,
    /// Beginnings of names, with or without the prefix, of tensors that no pass needs.
    pub unused: &'static [&'static str],
    /// Ends of names of tensors that follow from the config and are not read.
    pub ignored: &'static [&'static str],
}

impl Default for Names {
    fn default() -> Self {
        Self {
            prefix: "model.",
            embedding: "embed_tokens.weight",
            layers: "layers",
            norm: "norm",
            head: "lm_head",
            unused: &[],
            ignored: &["rotary_emb.inv_freq"],
        }
    }
}
