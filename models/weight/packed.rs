use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::prelude::{Int, Shape, Tensor};
use burn::tensor::TensorData;

use super::Format;
use crate::Backend;

/// A packed matrix `[out, in]`: codes, and the scales that they share, both as a checkpoint stores them.
#[derive(Module, Debug)]
pub struct Packed<B: Backend> {
    codes: Param<Tensor<B, 2, Int>>,
    scales: Param<Tensor<B, 2, Int>>,
    #[module(skip)]
    format: Format,
    shape: [usize; 2],
}

impl<B: Backend> Packed<B> {
    /// Of arrays of the shapes and dtypes that [`Format::parts`] tells.
    pub fn new(format: Format, shape: [usize; 2], codes: Tensor<B, 2, Int>, scales: Tensor<B, 2, Int>) -> Self {
        let param = |tensor| Param::initialized(ParamId::new(), tensor);
        Self { codes: param(codes), scales: param(scales), format, shape }
    }

    /// Packs a matrix whose weights lie in host memory.
    pub fn pack(format: Format, weights: &[f32], shape: [usize; 2], device: &B::Device) -> Self {
        let [codes, scales] = format.pack(weights, shape);
        let [of_codes, of_scales] = format.parts(shape);
        let tensor = |bytes: Vec<u8>, part: super::Part| {
            let data = TensorData::from_bytes_vec(bytes, part.shape, part.dtype);
            Tensor::from_data(data, (device, part.dtype))
        };
        Self::new(format, shape, tensor(codes, of_codes), tensor(scales, of_scales))
    }

    /// How it is packed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The codes, in the shape that [`Format::parts`] tells.
    pub fn codes(&self) -> Tensor<B, 2, Int> {
        self.codes.val()
    }

    /// The scales, in the shape that [`Format::parts`] tells.
    pub fn scales(&self) -> Tensor<B, 2, Int> {
        self.scales.val()
    }

    /// The weights `[out, in]` in f32, by way of the host.
    pub fn unpack(&self) -> Tensor<B, 2> {
        let device = self.codes().device();
        let (codes, scales) = (self.codes().into_data(), self.scales().into_data());
        let weights = self.format.unpack([codes.as_bytes(), scales.as_bytes()], self.shape);
        Tensor::from_data(TensorData::new(weights, self.shape), &device)
    }

    /// What `mapper` has for a matrix of this shape, if it has it packed: asked for as `{format}.codes` and
    /// `{format}.scales`.
    pub(super) fn ask<M: ModuleMapper<B>>(shape: [usize; 2], device: &B::Device, mapper: &mut M) -> Option<Self> {
        Format::ALL.into_iter().filter(|format| format.suits(shape)).find_map(|format| {
            mapper.enter_module(format.name(), CONTAINER);
            let [codes, scales] = [("codes", 0), ("scales", 1)].map(|(name, part)| {
                mapper.enter_module(name, CONTAINER);
                let param = mapper.map_int(nothing(format.parts(shape)[part].shape, device));
                mapper.exit_module(name, CONTAINER);
                param
            });
            mapper.exit_module(format.name(), CONTAINER);
            let brought = |param: &Param<Tensor<B, 2, Int>>| param.is_initialized() && param.dims() != [0, 0];
            (brought(&codes) && brought(&scales)).then_some(Self { codes, scales, format, shape })
        })
    }
}

/// What mappers are told that they are in.
const CONTAINER: &str = "Struct:Packed";

/// A parameter of which a mapper that knows nothing of packed weights makes an empty tensor.
fn nothing<B: Backend>(shape: [usize; 2], device: &B::Device) -> Param<Tensor<B, 2, Int>> {
    let empty = |device: &B::Device, _| Tensor::empty([0, 0], device);
    Param::uninitialized(ParamId::new(), empty, device.clone(), false, Shape::from(shape))
}
