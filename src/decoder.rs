//! An architecture with its type forgotten, so that the engine is compiled once a backend.

use leveret_models::layers::{Head, RopeParameters};
use leveret_models::registry::{self, Visitor};
use leveret_models::{Architecture, Backend, ConfigError, DecoderLayer, Dims};

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
    /// What the model needs from a checkpoint; `tied` as the config says it, if it does.
    fn outline(&self, tied: Option<bool>, device: &B::Device) -> Outline;
    fn load_layer(&self, index: usize, record: &Record<B>, device: &B::Device) -> Result<Box<dyn DecoderLayer<B>>>;
    fn load_head(&self, rows: usize, norm: bool, record: &Record<B>, device: &B::Device) -> Result<Head<B>>;
}

/// The architecture that a `config.json` names.
pub(crate) fn open<B: Backend>(config: &str) -> Result<Box<dyn Decoder<B>>, ConfigError> {
    struct Open<B>(std::marker::PhantomData<B>);
    impl<B: Backend> Visitor for Open<B> {
        type Output = Box<dyn Decoder<B>>;
        fn visit<A: Architecture>(self, architecture: A) -> Self::Output {
            Box::new(architecture)
        }
    }
    registry::open(config, Open(std::marker::PhantomData))
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

    fn outline(&self, tied: Option<bool>, device: &B::Device) -> Outline {
        let (dims, map) = (Architecture::dims(self), self.weight_map());
        let layer = |index| {
            let parameters = record::parameters::<B, _>(&self.layer::<B>(index, device)).into_iter();
            parameters.map(|parameter| Parameter { source: map.source(&parameter.name), ..parameter }).collect()
        };
        Outline {
            names: self.names(),
            embedding: [dims.vocab_size, dims.hidden_size],
            layers: (0..dims.num_layers).map(layer).collect(),
            head: record::parameters::<B, _>(&self.head::<B>(dims.vocab_size, true, device)),
            tied: tied.unwrap_or(A::TIED_BY_DEFAULT),
        }
    }

    fn load_layer(&self, index: usize, record: &Record<B>, device: &B::Device) -> Result<Box<dyn DecoderLayer<B>>> {
        Ok(Box::new(record::load(self.layer::<B>(index, device), record)?))
    }

    fn load_head(&self, rows: usize, norm: bool, record: &Record<B>, device: &B::Device) -> Result<Head<B>> {
        record::load(self.head::<B>(rows, norm, device), record)
    }
}
