//! An architecture with its type forgotten, so that the engine is compiled once a backend.

use leveret_models::layers::{
    Expert, ExpertKind, Experts, GatedMlp, Head, RopeParameters, StateShape, TransposedExpert,
};
use leveret_models::registry::{self, Visitor};
use leveret_models::{Activation, Architecture, Backend, ConfigError, DecoderLayer, Dims, LayerEmbedding};

use crate::error::Result;
use crate::record::{self, Record};
use crate::unit::{Outline, Parameter};

/// What the engine asks of an architecture.
pub(crate) trait Decoder<B: Backend>: Send + Sync {
    fn dims(&self) -> Dims;
    /// The rotary position embedding of a layer.
    fn rope(&self, layer: usize) -> RopeParameters;
    /// The length beyond which all keys are computed anew.
    fn recomputes_beyond(&self) -> Option<usize>;
    fn sliding_window(&self, layer: usize) -> Option<usize>;
    /// The layer whose keys and values a layer reads.
    fn kv_layer(&self, layer: usize) -> usize;
    /// The embedding that layers read of beside hidden states.
    fn layer_embedding(&self) -> Option<LayerEmbedding>;
    /// What a layer keeps in the place of keys and values, if it does.
    fn state(&self, layer: usize) -> Option<StateShape>;
    /// What the model needs from a checkpoint; `tied` as the config says it, if it does.
    fn outline(&self, tied: Option<bool>, device: &B::Device) -> Outline;
    fn load_layer(&self, index: usize, record: &Record<B>, device: &B::Device) -> Result<Box<dyn DecoderLayer<B>>>;
    fn load_head(&self, rows: usize, norm: bool, record: &Record<B>, device: &B::Device) -> Result<Head<B>>;
    /// The experts of a layer, if it has some.
    fn experts(&self, layer: usize) -> Option<Experts>;
}

/// The parameters of one of these experts.
fn expert_parameters<B: Backend>(experts: &Experts, device: &B::Device) -> Vec<Parameter> {
    match experts.kind {
        ExpertKind::Gated(activation) => record::parameters::<B, _>(&gated::<B>(experts, activation, device)),
        ExpertKind::Transposed(_) | ExpertKind::Clamped { .. } => {
            record::parameters::<B, _>(&TransposedExpert::<B>::new(experts, device))
        }
    }
}

/// One of these experts, from a record.
pub(crate) fn load_expert<B: Backend>(
    experts: &Experts,
    record: &Record<B>,
    device: &B::Device,
) -> Result<Box<dyn Expert<B>>> {
    Ok(match experts.kind {
        ExpertKind::Gated(activation) => Box::new(record::load(gated::<B>(experts, activation, device), record)?),
        ExpertKind::Transposed(_) | ExpertKind::Clamped { .. } => {
            Box::new(record::load(TransposedExpert::<B>::new(experts, device), record)?)
        }
    })
}

fn gated<B: Backend>(experts: &Experts, activation: Activation, device: &B::Device) -> GatedMlp<B> {
    GatedMlp::of_sizes([experts.hidden_size, experts.intermediate_size], false, activation, device)
}

/// Makes an architecture of a `config.json`.
pub(crate) type Open<B> = fn(&str) -> Result<Box<dyn Decoder<B>>, ConfigError>;

/// The architecture that a `config.json` names.
pub(crate) fn open<B: Backend>(config: &str) -> Result<Box<dyn Decoder<B>>, ConfigError> {
    struct Opened<B>(std::marker::PhantomData<B>);
    impl<B: Backend> Visitor for Opened<B> {
        type Output = Box<dyn Decoder<B>>;
        fn visit<A: Architecture>(self, architecture: A) -> Self::Output {
            Box::new(architecture)
        }
    }
    registry::open(config, Opened(std::marker::PhantomData))
}

/// The same, where an architecture of the caller's own comes before those of the registry.
pub(crate) fn open_with<B: Backend, A: Architecture>(config: &str) -> Result<Box<dyn Decoder<B>>, ConfigError> {
    match registry::read_as::<A>(config)? {
        Some(architecture) => Ok(Box::new(architecture)),
        None => open(config),
    }
}

impl<B: Backend, A: Architecture> Decoder<B> for A {
    fn dims(&self) -> Dims {
        Architecture::dims(self)
    }

    fn rope(&self, layer: usize) -> RopeParameters {
        self.layer_rope(layer)
    }

    fn recomputes_beyond(&self) -> Option<usize> {
        Architecture::recomputes_beyond(self)
    }

    fn sliding_window(&self, layer: usize) -> Option<usize> {
        Architecture::sliding_window(self, layer)
    }

    fn kv_layer(&self, layer: usize) -> usize {
        Architecture::kv_layer(self, layer)
    }

    fn layer_embedding(&self) -> Option<LayerEmbedding> {
        Architecture::layer_embedding(self)
    }

    fn state(&self, layer: usize) -> Option<StateShape> {
        Architecture::state(self, layer)
    }

    fn outline(&self, tied: Option<bool>, device: &B::Device) -> Outline {
        let (dims, map) = (Architecture::dims(self), self.weight_map());
        let layer = |index| {
            let parameters = record::parameters::<B, _>(&self.layer::<B>(index, device)).into_iter();
            parameters.map(|parameter| Parameter { source: map.source(&parameter.name), ..parameter }).collect()
        };
        Outline {
            names: self.names(),
            embedding: [dims.vocab_size, dims.embedding_size],
            layer_embedding: Architecture::layer_embedding(self),
            layers: (0..dims.num_layers).map(layer).collect(),
            experts: (0..dims.num_layers)
                .map(|i| {
                    Architecture::experts(self, i).map(|experts| {
                        let parameters = expert_parameters::<B>(&experts, device);
                        (experts, parameters)
                    })
                })
                .collect(),
            head: record::parameters::<B, _>(&self.head::<B>(dims.vocab_size, true, device)),
            unused_layers: self.unused_layers(),
            tied: tied.unwrap_or(A::TIED_BY_DEFAULT),
        }
    }

    fn load_layer(&self, index: usize, record: &Record<B>, device: &B::Device) -> Result<Box<dyn DecoderLayer<B>>> {
        Ok(Box::new(record::load(self.layer::<B>(index, device), record)?))
    }

    fn load_head(&self, rows: usize, norm: bool, record: &Record<B>, device: &B::Device) -> Result<Head<B>> {
        record::load(self.head::<B>(rows, norm, device), record)
    }

    fn experts(&self, layer: usize) -> Option<Experts> {
        Architecture::experts(self, layer)
    }
}
