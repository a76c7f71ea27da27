use burn::backend::Flex;
use burn::prelude::Tensor;
use burn::tensor::{DType, TensorData, TensorPrimitive};
use burn_flex::FlexTensor;

use crate::kernels::cpu::{Exact, Numbers, NumbersMut, View, narrow, widen};

/// Whether kernels read and write numbers of this type.
pub(super) fn is_known(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::BF16 | DType::F16)
}

/// What numbers of this type are exact in.
pub(super) fn exact(dtype: DType) -> Exact {
    match dtype {
        DType::BF16 => Exact::Bf16,
        DType::F16 => Exact::F16,
        _ => Exact::F32,
    }
}

/// A tensor as it lies in memory.
pub(super) fn primitive<const D: usize>(x: Tensor<Flex, D>) -> FlexTensor {
    x.into_primitive().tensor()
}

/// A tensor of what lies in memory.
pub(super) fn tensor<const D: usize>(x: FlexTensor) -> Tensor<Flex, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x))
}

/// A tensor's numbers in f32, row by row.
pub(super) fn numbers<const D: usize>(x: Tensor<Flex, D>) -> Vec<f32> {
    let x = if is_known(x.dtype()) { x } else { x.cast(DType::F32) };
    let x = primitive(x);
    let x = if x.layout().contiguous_offsets().is_some() { x } else { x.to_contiguous() };
    let (start, end) = x.layout().contiguous_offsets().expect("contiguous");
    widen(stored(&x), start, end - start)
}

/// A tensor of f32 numbers in another dtype.
pub(super) fn rounded<const D: usize>(x: Vec<f32>, shape: [usize; D], dtype: DType) -> Tensor<Flex, D> {
    if dtype != DType::F32 && is_known(dtype) {
        return tensor(written(&shape, dtype, |to| narrow(&x, to)));
    }
    let x = Tensor::<Flex, D>::from_data(TensorData::new(x, shape), &Default::default());
    if dtype == DType::F32 { x } else { x.cast(dtype) }
}

/// What `write` writes, as a tensor of a known dtype.
pub(super) fn written(shape: &[usize], dtype: DType, write: impl FnOnce(NumbersMut)) -> FlexTensor {
    let mut x = FlexTensor::empty(shape.to_vec().into(), dtype);
    write(stored_mut(&mut x));
    x
}

/// All numbers of the memory that a tensor of a known dtype lies in.
pub(super) fn stored(x: &FlexTensor) -> Numbers<'_> {
    match x.dtype() {
        DType::F32 => Numbers::F32(x.storage()),
        DType::BF16 => Numbers::Bf16(x.storage()),
        DType::F16 => Numbers::F16(x.storage()),
        other => unreachable!("{other:?} is no known dtype"),
    }
}

/// The same to be written; copied before if somebody else holds it.
pub(super) fn stored_mut(x: &mut FlexTensor) -> NumbersMut<'_> {
    match x.dtype() {
        DType::F32 => NumbersMut::F32(x.storage_mut()),
        DType::BF16 => NumbersMut::Bf16(x.storage_mut()),
        DType::F16 => NumbersMut::F16(x.storage_mut()),
        other => unreachable!("{other:?} is no known dtype"),
    }
}

/// A tensor of heads whose rows lie in one piece each.
pub(super) fn in_rows(x: Tensor<Flex, 4>) -> FlexTensor {
    let x = primitive(x);
    let strides = x.layout().strides();
    match strides[3] == 1 && strides.iter().all(|stride| *stride >= 0) {
        true => x,
        false => x.to_contiguous(),
    }
}

/// The heads of a tensor that is [`in_rows`].
pub(super) fn view(x: &FlexTensor) -> View<'_> {
    let (layout, strides) = (x.layout(), x.layout().strides());
    let strides = [0, 1, 2].map(|i| strides[i] as usize);
    View { numbers: stored(x), start: layout.start_offset(), strides, shape: layout.shape().dims() }
}
