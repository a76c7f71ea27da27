use burn::module::{
    AutodiffModule, Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param,
    ParamId,
};
use burn::prelude::Tensor;
use burn::tensor::backend::AutodiffBackend;

use super::Packed;
use crate::Backend;
use crate::layers::parameter;

/// The matrix `[out, in]` of a linear layer, dense or packed: the record loader decides.
#[derive(Debug, Clone)]
pub enum Weight<B: Backend> {
    /// In any float dtype.
    Dense(Param<Tensor<B, 2>>),
    /// In fewer bits.
    Packed(Packed<B>),
    /// As a checkpoint stores it, `[in, out]`: what it is until it is loaded, and dense from then on.
    Transposed(Param<Tensor<B, 2>>),
}

impl<B: Backend> Weight<B> {
    /// A matrix that is not yet loaded.
    pub fn new(shape: [usize; 2], device: &B::Device) -> Self {
        Self::Dense(parameter(shape, device))
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Dense(param) => param.lazy_shape().dims(),
            Self::Packed(packed) => packed.shape(),
            Self::Transposed(param) => {
                let [inputs, outputs] = param.lazy_shape().dims();
                [outputs, inputs]
            }
        }
    }

    /// The weights `[out, in]`: as they are if they are dense, else in f32.
    pub fn dense(&self) -> Tensor<B, 2> {
        match self {
            Self::Dense(param) => param.val(),
            Self::Packed(packed) => packed.unpack(),
            Self::Transposed(param) => param.val().transpose(),
        }
    }
}

/// How visitors are told of a transposed matrix, in Burn's words for a variant.
const TRANSPOSED: &str = "Transposed";
const CONTAINER: &str = "Enum:Weight";

/// As of a dense parameter, but that a mapper may bring packed weights.
impl<B: Backend> Module<B> for Weight<B> {
    type Record = Param<Tensor<B, 2>>;

    fn collect_devices(&self, devices: Devices<B>) -> Devices<B> {
        match self {
            Self::Dense(param) => param.collect_devices(devices),
            Self::Packed(packed) => packed.collect_devices(devices),
            Self::Transposed(param) => param.collect_devices(devices),
        }
    }

    fn fork(self, device: &B::Device) -> Self {
        match self {
            Self::Dense(param) => Self::Dense(param.fork(device)),
            Self::Packed(packed) => Self::Packed(packed.fork(device)),
            Self::Transposed(param) => Self::Transposed(param.fork(device)),
        }
    }

    fn to_device(self, device: &B::Device) -> Self {
        match self {
            Self::Dense(param) => Self::Dense(param.to_device(device)),
            Self::Packed(packed) => Self::Packed(packed.to_device(device)),
            Self::Transposed(param) => Self::Transposed(param.to_device(device)),
        }
    }

    fn visit<V: ModuleVisitor<B>>(&self, visitor: &mut V) {
        match self {
            Self::Dense(param) => visitor.visit_float(param),
            Self::Packed(packed) => packed.visit(visitor),
            Self::Transposed(param) => {
                visitor.enter_module(TRANSPOSED, CONTAINER);
                visitor.visit_float(param);
                visitor.exit_module(TRANSPOSED, CONTAINER);
            }
        }
    }

    fn map<M: ModuleMapper<B>>(self, mapper: &mut M) -> Self {
        match self {
            Self::Packed(packed) => Self::Packed(packed.map(mapper)),
            Self::Transposed(param) => {
                let weight = mapper.map_float(param).val();
                let [inputs, outputs] = weight.dims();
                // By way of a vector, so that it is written anew and not viewed.
                let weight = weight.transpose().reshape([inputs * outputs]).reshape([outputs, inputs]);
                Self::Dense(Param::initialized(ParamId::new(), weight))
            }
            Self::Dense(param) if param.is_initialized() => Self::Dense(mapper.map_float(param)),
            Self::Dense(param) => match Packed::ask(param.lazy_shape().dims(), &param.lazy_device(), mapper) {
                Some(packed) => Self::Packed(packed),
                None => Self::Dense(mapper.map_float(param)),
            },
        }
    }

    fn load_record(self, record: Self::Record) -> Self {
        Self::Dense(record)
    }

    fn into_record(self) -> Self::Record {
        Param::initialized(ParamId::new(), self.dense())
    }
}

impl<B: Backend> ModuleDisplayDefault for Weight<B> {
    fn content(&self, content: Content) -> Option<Content> {
        match self {
            Self::Dense(param) => ModuleDisplayDefault::content(param, content),
            Self::Packed(packed) => ModuleDisplayDefault::content(packed, content),
            Self::Transposed(param) => ModuleDisplayDefault::content(param, content),
        }
    }
}

impl<B: Backend> ModuleDisplay for Weight<B> {}

impl<B: Backend + AutodiffBackend> AutodiffModule<B> for Weight<B>
where
    B::InnerBackend: Backend,
{
    type InnerModule = Weight<B::InnerBackend>;

    fn valid(&self) -> Self::InnerModule {
        match self {
            Self::Dense(param) => Weight::Dense(param.valid()),
            Self::Packed(packed) => Weight::Packed(packed.valid()),
            Self::Transposed(param) => Weight::Transposed(param.valid()),
        }
    }

    fn from_inner(module: Self::InnerModule) -> Self {
        match module {
            Weight::Dense(param) => Self::Dense(AutodiffModule::from_inner(param)),
            Weight::Packed(packed) => Self::Packed(AutodiffModule::from_inner(packed)),
            Weight::Transposed(param) => Self::Transposed(AutodiffModule::from_inner(param)),
        }
    }
}
