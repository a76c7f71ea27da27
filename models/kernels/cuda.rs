//! CUDA: the kernels of [`cube`](super::cube) where they suit, else the portable bodies.

use burn::backend::Cuda;
use burn::prelude::{Int, Shape, Tensor};
use burn::tensor::{DType, TensorPrimitive};
use burn_cubecl::tensor::CubeTensor;
use cubecl::cuda::CudaRuntime;

use super::cube::{self, End, Hidden, Layer, Matrix};
use super::cublas;
use crate::config::Activation;
use crate::layers::{Attention, AttentionInput, Heads, Input, Linear, Sdpa};
use crate::weight::Weight;
use crate::{Backend, portable};

impl Backend for Cuda {
    /// Fewer would not keep all tensor cores of a large device busy.
    const CHUNK: usize = 2048;

    /// A library's workspace, a panel of a packed weight, and what split attention leaves behind.
    const KERNEL_SCRATCH: usize = cublas::WORKSPACE + cube::PANEL + (8 << 20);

    fn linears<const N: usize>(input: Input<'_, Self>, layers: [&Linear<Self>; N]) -> [Tensor<Self, 3>; N] {
        if !is_long(&input.x, &layers)
            && let Some(y) = cube::linear(hidden(&input), layers.map(layer).into(), End::Each)
        {
            let mut results = y.into_iter().map(outer);
            return layers.map(|_| results.next().expect("each layer has a result"));
        }
        let x = input.normed();
        let long = long(&x, &layers, None).and_then(|results| results.try_into().ok());
        long.unwrap_or_else(|| layers.map(|layer| one(&x, layer)))
    }

    fn linear_add(x: Tensor<Self, 3>, linear: &Linear<Self>, residual: Tensor<Self, 3>) -> Tensor<Self, 3> {
        let long = long(&x, &[linear], Some(&residual)).and_then(|mut results| results.pop());
        let end = End::Add(inner(&residual));
        long.or_else(|| only(cube::linear(Hidden { x: inner(&x), norm: None }, vec![layer(linear)], end)))
            .unwrap_or_else(|| add(one(&x, linear), residual))
    }

    fn gated_linears(
        activation: Activation,
        input: Input<'_, Self>,
        gate: &Linear<Self>,
        up: &Linear<Self>,
    ) -> Tensor<Self, 3> {
        if !is_long(&input.x, &[gate, up]) {
            let y = cube::linear(hidden(&input), vec![layer(gate), layer(up)], End::Gated(activation));
            if let Some(y) = only(y) {
                return y;
            }
        }
        let [gate, up] = Self::linears(input, [gate, up]);
        let y = cube::gated(activation, &inner(&gate), &inner(&up));
        y.map_or_else(|| portable::gated(activation, gate, up), outer)
    }

    fn rms_norm<const D: usize>(x: Tensor<Self, D>, weight: Tensor<Self, 1>, eps: f64) -> Tensor<Self, D> {
        let y = cube::rms_norm(&inner(&x), &inner(&weight), eps);
        y.map_or_else(|| portable::rms_norm(x, weight, eps), outer)
    }

    /// Burn's product rounds f32 to 19 bits: the upper and the lower bits are multiplied apart, the smallest first.
    fn matmul<const D: usize>(a: Tensor<Self, D>, b: Tensor<Self, D>) -> Tensor<Self, D> {
        if a.dtype() != DType::F32 {
            return a.matmul(b);
        }
        let parts = |x: Tensor<Self, D>| {
            let upper = x.clone().cast(DType::BF16).cast(DType::F32);
            (upper.clone(), x - upper)
        };
        let ((a, a_lower), (b, b_lower)) = (parts(a), parts(b));
        let lower = a_lower.clone().matmul(b_lower.clone()) + a_lower.matmul(b.clone()) + a.clone().matmul(b_lower);
        lower + a.matmul(b)
    }

    fn unwritten(shape: [usize; 4], device: &Self::Device, dtype: DType) -> Tensor<Self, 4> {
        outer(cube::unwritten(device, Shape::from(shape), dtype))
    }

    fn append(buffer: Tensor<Self, 4>, columns: Tensor<Self, 4>, at: usize) -> Tensor<Self, 4> {
        let target = own(buffer);
        let written = cube::append(&target, &inner(&columns), at);
        let buffer = outer(target);
        if written { buffer } else { portable::append(buffer, columns, at) }
    }

    fn append_heads(
        heads: Heads<'_, Self>,
        keys: Tensor<Self, 4>,
        values: Tensor<Self, 4>,
        at: usize,
    ) -> [Tensor<Self, 4>; 3] {
        let norms = match (heads.q_norm, heads.k_norm) {
            (Some(q), Some(k)) if q.eps() == k.eps() => Some(Some(([inner(&q.weight()), inner(&k.weight())], q.eps()))),
            (None, None) => Some(None),
            _ => None,
        };
        // The kernel turns halves of whole heads.
        let norms = norms.filter(|_| heads.rope.is_plain(heads.q.dims()[3]));
        let (keys, values) = (own(keys), own(values));
        let rotated = norms.and_then(|norms| {
            cube::append_heads(&cube::Heads {
                q: inner(&heads.q),
                k: inner(&heads.k),
                v: inner(&heads.v),
                norms,
                cos: inner(&heads.rope.cos()),
                sin: inner(&heads.rope.sin()),
                keys: keys.clone(),
                values: values.clone(),
                at,
            })
        });
        let (keys, values) = (outer(keys), outer(values));
        match rotated {
            Some(q) => [outer(q), keys, values],
            None => {
                let (q, k) = heads.rotated();
                [q, Self::append(keys, k, at), Self::append(values, heads.v, at)]
            }
        }
    }

    fn attend(input: AttentionInput<'_, Self>) -> Tensor<Self, 4> {
        if input.shapes_scores() {
            return Sdpa::default().forward(input);
        }
        let (mask, device) = (input.mask, input.q.device());
        let positions = |tensor: Tensor<Self, 1, Int>| tensor.into_primitive();
        let out = cube::attention(&cube::AttentionInput {
            q: inner(&input.q),
            k: inner(&input.k),
            v: inner(&input.v),
            query_positions: positions(mask.query_positions().on_device(&device)),
            key_positions: positions(mask.key_positions().on_device(&device)),
            start: input.columns.start,
            keys: input.columns.len(),
            dropped: mask.dropped(),
            window: mask.sliding_window(),
            scale: input.scale,
            softcap: input.softcap,
            sinks: input.sinks.as_ref().map(|sinks| inner(&sinks.clone().cast(DType::F32))),
        });
        out.map_or_else(|| Sdpa::default().forward(input), outer)
    }

    fn fuses_attention(head_dim: usize) -> bool {
        cube::suits_attention(head_dim)
    }
}

/// Rows of input from which on a library's product repays the waiting, where the host has to wait.
const LONG: usize = 65;

/// As many for packed weights, which have to be unpacked for it.
const LONG_PACKED: usize = 129;

fn is_long(x: &Tensor<Cuda, 3>, layers: &[&Linear<Cuda>]) -> bool {
    let [batch, seq, _] = x.dims();
    let packed = layers.iter().any(|linear| matches!(linear.weight(), Weight::Packed(_)));
    batch * seq >= if packed { LONG_PACKED } else { LONG }
}

/// Some linear layers by a library; `None` where rows are few, or it does not serve them.
fn long(
    x: &Tensor<Cuda, 3>,
    layers: &[&Linear<Cuda>],
    residual: Option<&Tensor<Cuda, 3>>,
) -> Option<Vec<Tensor<Cuda, 3>>> {
    let transposed = layers.iter().any(|linear| matches!(linear.weight(), Weight::Transposed(_)));
    if transposed || !is_long(x, layers) {
        return None;
    }
    let whole = |x: &Tensor<Cuda, 3>| cube::in_one_piece(inner(x));
    let layers: Vec<_> = layers.iter().map(|linear| layer(linear)).collect();
    let results = cublas::matmul(&whole(x), &layers, residual.map(whole).as_ref())?;
    Some(results.into_iter().map(outer).collect())
}

/// One linear layer by whatever serves it.
fn one(x: &Tensor<Cuda, 3>, linear: &Linear<Cuda>) -> Tensor<Cuda, 3> {
    let alone = cube::linear(Hidden { x: inner(x), norm: None }, vec![layer(linear)], End::Each);
    only(alone).unwrap_or_else(|| portable::linear(x.clone(), linear))
}

/// The result of a product that has one.
fn only(results: Option<Vec<CubeTensor<CudaRuntime>>>) -> Option<Tensor<Cuda, 3>> {
    results?.pop().map(outer)
}

fn add(x: Tensor<Cuda, 3>, y: Tensor<Cuda, 3>) -> Tensor<Cuda, 3> {
    cube::add(&inner(&x), &inner(&y)).map_or_else(|| x + y, outer)
}

fn hidden(input: &Input<'_, Cuda>) -> Hidden<CudaRuntime> {
    Hidden { x: inner(&input.x), norm: input.norm.map(|norm| (taken(norm.weight()), norm.eps())) }
}

fn layer(linear: &Linear<Cuda>) -> Layer<CudaRuntime> {
    let weight = match linear.weight() {
        Weight::Dense(weight) => Matrix::Dense(cube::in_one_piece(taken(weight.val()))),
        Weight::Transposed(weight) => Matrix::Dense(cube::in_one_piece(taken(weight.val().transpose()))),
        Weight::Packed(packed) => {
            let [codes, scales] = [packed.codes(), packed.scales()].map(|x| cube::in_one_piece(x.into_primitive()));
            Matrix::Packed(packed.format(), codes, scales)
        }
    };
    let [outputs, _] = linear.weight().shape();
    Layer { weight, bias: linear.bias().map(taken), outputs }
}

/// The buffer, or a copy of it where somebody else holds it.
fn own(buffer: Tensor<Cuda, 4>) -> CubeTensor<CudaRuntime> {
    let buffer = buffer.into_primitive().tensor();
    if buffer.can_mut() && buffer.is_nonoverlapping() { buffer } else { buffer.copy() }
}

fn inner<const D: usize>(x: &Tensor<Cuda, D>) -> CubeTensor<CudaRuntime> {
    taken(x.clone())
}

fn taken<const D: usize>(x: Tensor<Cuda, D>) -> CubeTensor<CudaRuntime> {
    x.into_primitive().tensor()
}

fn outer<const D: usize>(x: CubeTensor<CudaRuntime>) -> Tensor<Cuda, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x))
}
