use burn::backend::Flex;
use burn::prelude::Tensor;
use burn::tensor::{DType, TensorPrimitive};
use burn_flex::FlexTensor;

use crate::kernels::cpu::{Matrix, Weights};
use crate::weight::{Format, Weight};

/// The memory that a weight lies in.
pub(super) enum Arrays {
    Dense(FlexTensor),
    Packed(Format, FlexTensor, FlexTensor),
}

impl Arrays {
    pub(super) fn of(weight: &Weight<Flex>) -> Self {
        match weight {
            Weight::Dense(weight) => match weight.val().into_primitive() {
                TensorPrimitive::Float(tensor) => Self::Dense(tensor.to_contiguous()),
                other => Self::Dense(Tensor::<Flex, 2>::from_primitive(other).into_primitive().tensor()),
            },
            Weight::Transposed(weight) => Self::of(&Weight::Dense(weight.clone().map(|weight| weight.transpose()))),
            Weight::Packed(packed) => {
                let [codes, scales] = [packed.codes(), packed.scales()].map(|x| x.into_primitive().to_contiguous());
                Self::Packed(packed.format(), codes, scales)
            }
        }
    }

    pub(super) fn matrix(&self, outputs: usize, inputs: usize) -> Matrix<'_> {
        let weights = match self {
            Self::Dense(weights) => match weights.dtype() {
                DType::BF16 => Weights::Bf16(slice(weights)),
                DType::F16 => Weights::F16(slice(weights)),
                _ => Weights::F32(slice(weights)),
            },
            Self::Packed(Format::Int8, codes, scales) => Weights::Int8 { codes: slice(codes), scales: slice(scales) },
            Self::Packed(Format::Int4, codes, scales) => Weights::Int4 { codes: slice(codes), scales: slice(scales) },
            Self::Packed(Format::Fp8, codes, scales) => Weights::Fp8 { codes: slice(codes), scales: slice(scales) },
        };
        Matrix::new(weights, outputs, inputs)
    }
}

/// The numbers of a tensor that fills its memory, whatever they are called there.
fn slice<T: bytemuck::Pod>(tensor: &FlexTensor) -> &[T] {
    bytemuck::cast_slice(tensor.bytes())
}
