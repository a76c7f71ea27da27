use burn::backend::Flex;
use burn::prelude::Tensor;
use burn::tensor::DType;
use burn_flex::FlexTensor;

use super::tensors::{in_rows, is_known, numbers, primitive, stored_mut, tensor, view, written};
use crate::kernels::cpu::{Attention, Rotation};
use crate::layers::{Attention as _, AttentionInput, Heads, RmsNorm, Sdpa};
use crate::portable;

/// See [`Backend::append_heads`].
pub(super) fn append(
    heads: Heads<'_, Flex>,
    keys: Tensor<Flex, 4>,
    values: Tensor<Flex, 4>,
    at: usize,
) -> [Tensor<Flex, 4>; 3] {
    let dtypes = [heads.q.dtype(), heads.k.dtype(), heads.v.dtype(), keys.dtype(), values.dtype()];
    if !dtypes.into_iter().all(is_known) || !heads.rope.is_plain(heads.q.dims()[3]) {
        let (q, k) = heads.rotated();
        return [q, portable::append(keys, k, at), portable::append(values, heads.v, at)];
    }
    let angles = [heads.rope.cos(), heads.rope.sin()].map(numbers);
    let angles = Some(angles.each_ref().map(Vec::as_slice));
    let norm = |norm: Option<&RmsNorm<Flex>>| norm.map(|norm| (numbers(norm.weight()), norm.eps() as f32));
    let norms = [norm(heads.q_norm), norm(heads.k_norm)];
    let [q_norm, k_norm] = norms.each_ref().map(|norm| norm.as_ref().map(|(weight, eps)| (weight.as_slice(), *eps)));

    let (shape, dtype) = (heads.q.dims(), heads.q.dtype());
    let [q, k, v] = [heads.q, heads.k, heads.v].map(in_rows);
    let q = Rotation { x: view(&q), norm: q_norm, angles };
    let k = Rotation { x: view(&k), norm: k_norm, angles };
    let v = Rotation { x: view(&v), norm: None, angles: None };
    let q = tensor(written(&shape, dtype, |to| q.write(to, 0)));
    [q, tensor(over(keys, k, at)), tensor(over(values, v, at))]
}

/// The buffer with some of its columns written, in place where nobody else holds it.
fn over(buffer: Tensor<Flex, 4>, columns: Rotation, at: usize) -> FlexTensor {
    let mut buffer = primitive(buffer);
    let whole = buffer.layout().start_offset() == 0 && buffer.is_contiguous();
    if !whole || buffer.bytes().len() != buffer.layout().num_elements() * buffer.dtype().size() {
        buffer = buffer.to_contiguous();
    }
    columns.write(stored_mut(&mut buffer), at);
    buffer
}

/// See [`Backend::attend`].
pub(super) fn attend(input: AttentionInput<'_, Flex>) -> Tensor<Flex, 4> {
    let dtypes: [DType; 3] = [&input.q, &input.k, &input.v].map(Tensor::dtype);
    if !dtypes.into_iter().all(is_known) || input.k.dims() != input.v.dims() || input.shapes_scores() {
        return Sdpa::default().forward(input);
    }
    let ([batch, heads, queries, head_dim], dtype) = (input.q.dims(), input.q.dtype());
    let (keys, values) = (in_rows(input.keys()), in_rows(input.values()));
    let q = in_rows(input.q);
    let scale = input.scale as f32;
    let softcap = input.softcap.map(|softcap| softcap as f32);
    let sinks = input.sinks.map(numbers);
    let (mask, sinks) = (input.mask, sinks.as_deref());
    let attention = Attention { q: view(&q), k: view(&keys), v: view(&values), mask, scale, softcap, sinks };
    let out = written(&[batch, queries, heads, head_dim], dtype, |to| attention.write(to));
    tensor::<4>(out).swap_dims(1, 2)
}
