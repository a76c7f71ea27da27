//! CPU kernels: weights are read where they lie and in the dtype they have; only the panel at hand becomes f32.

use std::borrow::Cow;

use burn::backend::Flex;
use burn::prelude::Tensor;
use burn::tensor::{DType, TensorData, TensorPrimitive};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use crate::layers::{Input, Linear};
use crate::{Backend, portable};

/// Up to this many rows of input, each weight is multiplied as it is read; beyond, a matrix product pays for widening.
const FEW_ROWS: usize = 8;

/// Numbers of a widened panel: 4 MiB, so that it stays in the cache between being written and being multiplied.
const PANEL: usize = 1 << 20;

impl Backend for Flex {
    const USES_HOST_MEMORY: bool = true;

    fn linears<const N: usize>(input: Input<'_, Self>, layers: [&Linear<Self>; N]) -> [Tensor<Self, 3>; N] {
        let x = input.normed();
        layers.map(|layer| linear(&x, layer))
    }
}

fn linear(x: &Tensor<Flex, 3>, layer: &Linear<Flex>) -> Tensor<Flex, 3> {
    let TensorPrimitive::Float(matrix) = layer.weight().dense().into_primitive() else {
        return portable::linear(x.clone(), layer);
    };
    match matrix.dtype() {
        DType::F32 => matrix.as_slice::<f32>().map(|w| product(x, w)),
        DType::BF16 => matrix.as_slice::<bf16>().map(|w| product(x, w)),
        DType::F16 => matrix.as_slice::<f16>().map(|w| product(x, w)),
        _ => None,
    }
    .map(|y| match layer.bias() {
        Some(bias) => y + bias.cast(DType::F32).unsqueeze(),
        None => y,
    })
    .map(|y| y.cast(x.dtype()))
    .unwrap_or_else(|| portable::linear(x.clone(), layer))
}

/// `x [batch, seq, in]` by `weight [out, in]`, in f32.
fn product<W: Weight>(x: &Tensor<Flex, 3>, weight: &[W]) -> Tensor<Flex, 3> {
    let [batch, seq, inputs] = x.dims();
    let (rows, outputs) = (batch * seq, weight.len() / inputs.max(1));
    let data = x.clone().cast(DType::F32).into_data();
    let x = data.as_slice::<f32>().expect("a cast tensor is f32");
    let y = match rows <= FEW_ROWS {
        true => few_rows(x, weight, rows, inputs, outputs),
        false => many_rows(x, weight, rows, inputs, outputs),
    };
    Tensor::from_data(TensorData::new(y, [batch, seq, outputs]), &Default::default())
}

/// Reads every weight once, in memory's order, and multiplies it by all rows of `x`.
fn few_rows<W: Weight>(x: &[f32], weight: &[W], rows: usize, inputs: usize, outputs: usize) -> Vec<f32> {
    let dot = dot_for_this_cpu();
    let run = outputs.div_ceil(4 * rayon::current_num_threads()).max(1);
    let mut transposed = vec![0.0; outputs * rows]; // [out, rows]
    transposed.par_chunks_mut(run * rows).zip(weight.par_chunks(run * inputs)).for_each(|(y, weight)| {
        let mut scratch = Vec::new();
        for (y, weight) in y.chunks_mut(rows).zip(weight.chunks(inputs)) {
            for (y, x) in y.iter_mut().zip(x.chunks(inputs)) {
                *y = W::dot(weight, x, &dot, &mut scratch);
            }
        }
    });
    match rows {
        1 => transposed,
        _ => (0..rows * outputs).map(|i| transposed[i % outputs * rows + i / outputs]).collect(),
    }
}

/// Widens the weight panel by panel and leaves the product to `gemm`.
fn many_rows<W: Weight>(x: &[f32], weight: &[W], rows: usize, inputs: usize, outputs: usize) -> Vec<f32> {
    let mut y = vec![0.0; rows * outputs];
    let panel = W::panel(outputs, inputs);
    for (i, weight) in weight.chunks(panel * inputs).enumerate() {
        let weight = W::widen(weight);
        let columns = weight.len() / inputs;
        // SAFETY: `x` holds rows · inputs numbers, `weight` columns · inputs; the product's columns
        // i · panel .. i · panel + columns of every row lie inside `y`, and nothing else refers to `y` meanwhile.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                inputs,
                y.as_mut_ptr().add(i * panel),
                1,
                outputs as isize,
                false,
                x.as_ptr(),
                1,
                inputs as isize,
                weight.as_ptr(),
                inputs as isize,
                1,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(0),
            );
        }
    }
    y
}

/// A number that weights are stored as.
trait Weight: Copy + Sync {
    /// The weights as f32.
    fn widen(weights: &[Self]) -> Cow<'_, [f32]>;

    /// The scalar product of one row with one input.
    fn dot(weights: &[Self], x: &[f32], dot: &Dot, scratch: &mut Vec<f32>) -> f32;

    /// Rows that are widened at a time.
    fn panel(_outputs: usize, inputs: usize) -> usize {
        (PANEL / inputs).max(16)
    }
}

impl Weight for f32 {
    fn widen(weights: &[Self]) -> Cow<'_, [f32]> {
        Cow::Borrowed(weights)
    }

    fn dot(weights: &[Self], x: &[f32], dot: &Dot, _scratch: &mut Vec<f32>) -> f32 {
        (dot.f32)(weights, x)
    }

    fn panel(outputs: usize, _inputs: usize) -> usize {
        outputs
    }
}

impl Weight for bf16 {
    fn widen(weights: &[Self]) -> Cow<'_, [f32]> {
        widened(weights)
    }

    fn dot(weights: &[Self], x: &[f32], dot: &Dot, _scratch: &mut Vec<f32>) -> f32 {
        (dot.bf16)(weights, x)
    }
}

impl Weight for f16 {
    fn widen(weights: &[Self]) -> Cow<'_, [f32]> {
        widened(weights)
    }

    fn dot(weights: &[Self], x: &[f32], dot: &Dot, scratch: &mut Vec<f32>) -> f32 {
        scratch.resize(weights.len(), 0.0);
        weights.convert_to_f32_slice(scratch);
        (dot.f32)(scratch, x)
    }
}

fn widened<W: Sync>(weights: &[W]) -> Cow<'_, [f32]>
where
    [W]: HalfFloatSliceExt,
{
    let mut wide = vec![0.0; weights.len()];
    let run = weights.len().div_ceil(rayon::current_num_threads()).max(1);
    wide.par_chunks_mut(run).zip(weights.par_chunks(run)).for_each(|(to, from)| from.convert_to_f32_slice(to));
    Cow::Owned(wide)
}

/// Scalar products compiled for one instruction set.
struct Dot {
    f32: fn(&[f32], &[f32]) -> f32,
    bf16: fn(&[bf16], &[f32]) -> f32,
}

fn dot_for_this_cpu() -> Dot {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the CPU has the features that these functions are compiled for.
        return Dot { f32: |w, x| unsafe { avx2::dot(w, x) }, bf16: |w, x| unsafe { avx2::dot(w, x) } };
    }
    Dot { f32: dot::<f32, false>, bf16: dot::<bf16, false> }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    #[target_feature(enable = "avx2,fma")]
    pub fn dot<W: super::Lane>(weights: &[W], x: &[f32]) -> f32 {
        super::dot::<W, true>(weights, x)
    }
}

/// A weight that widens in registers.
trait Lane: Copy {
    fn lane(self) -> f32;
}

impl Lane for f32 {
    #[inline(always)]
    fn lane(self) -> f32 {
        self
    }
}

impl Lane for bf16 {
    #[inline(always)]
    fn lane(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// Sums in 32 lanes, which the compiler turns into vectors; `FMA` where the CPU multiplies and adds in one.
#[inline(always)]
fn dot<W: Lane, const FMA: bool>(weights: &[W], x: &[f32]) -> f32 {
    let (weight_lanes, weight_rest) = weights.as_chunks::<32>();
    let (x_lanes, x_rest) = x.as_chunks::<32>();
    let add = |sum: &mut f32, w: W, x: f32| *sum = if FMA { w.lane().mul_add(x, *sum) } else { w.lane() * x + *sum };
    let mut sums = [0.0; 32];
    for (weights, x) in weight_lanes.iter().zip(x_lanes) {
        for i in 0..32 {
            add(&mut sums[i], weights[i], x[i]);
        }
    }
    let mut rest = 0.0;
    for (w, x) in weight_rest.iter().zip(x_rest) {
        add(&mut rest, *w, *x);
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use burn::module::{Param, ParamId};
    use burn::tensor::{Distribution, Tolerance};

    use super::*;
    use crate::weight::Weight;

    fn layer(weight: Tensor<Flex, 2>, bias: Option<Tensor<Flex, 1>>) -> Linear<Flex> {
        let param = |bias| Param::initialized(ParamId::new(), bias);
        Linear::of(Weight::Dense(Param::initialized(ParamId::new(), weight)), bias.map(param))
    }

    /// Every path gives what the portable body gives in f32.
    #[test]
    fn linear_equals_the_portable_body() {
        let device = Default::default();
        for (rows, inputs, outputs) in [(1, 64, 32), (3, 37, 5), (8, 100, 257), (9, 33, 65), (40, 70000, 19)] {
            let random = |shape: [usize; 2]| Tensor::<Flex, 2>::random(shape, Distribution::Normal(0.0, 1.0), &device);
            let x = random([rows, inputs]).unsqueeze::<3>();
            let bias = random([1, outputs]).squeeze_dim::<1>(0);
            for dtype in [DType::F32, DType::BF16, DType::F16] {
                let weight = (random([outputs, inputs]) * (inputs as f64).powf(-0.5)).cast(dtype);
                let want =
                    portable::linear(x.clone(), &layer(weight.clone().cast(DType::F32), Some(bias.clone())));
                let [got] = Flex::linears(x.clone().into(), [&layer(weight, Some(bias.clone()))]);
                got.into_data().assert_approx_eq::<f32>(&want.into_data(), Tolerance::absolute(1e-4));
            }
        }
    }

    /// A row's result does not depend on its neighbours, to the bit, on either path.
    #[test]
    fn rows_are_independent() {
        let device = Default::default();
        let random = |shape| Tensor::<Flex, 3>::random(shape, Distribution::Normal(0.0, 1.0), &device);
        let layer = layer(random([1, 50, 48]).squeeze_dim::<2>(0).cast(DType::BF16), None);
        for rows in [5, 20] {
            let x = random([1, rows, 48]);
            let other = Tensor::cat(vec![x.clone().narrow(1, 0, 1), random([1, rows - 1, 48])], 1);
            let first = |x: Tensor<Flex, 3>| layer.forward(x).narrow(1, 0, 1).into_data();
            assert_eq!(first(x), first(other));
        }
    }
}
