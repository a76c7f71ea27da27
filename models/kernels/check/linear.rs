use rstest::rstest;

use super::*;
use crate::config::Activation;
use crate::layers::{Input, Linear};
use crate::weight::{Format, Packed, Weight};

/// The cases below name each of them.
const _: () = assert!(Format::ALL.len() == 3);

/// What a linear layer's weights are stored in.
#[derive(Debug, Clone, Copy)]
enum Stored {
    Dense(DType),
    Packed(Format),
}

impl Stored {
    /// The dtype of biases beside it.
    fn bias(self, x: DType) -> DType {
        if let Self::Dense(dtype) = self { dtype } else { x }
    }
}

/// The same layer on both backends; on the CPU in f32.
fn layers<B: Backend>(stored: Stored, x: DType, shape: [usize; 2], bias: bool) -> (Linear<Flex>, Linear<B>) {
    let [outputs, inputs] = shape;
    let weight = random(shape, DType::F32) * (inputs as f64).powf(-0.5);
    let (here_weight, there_weight) = match stored {
        Stored::Dense(dtype) => {
            let weight = weight.cast(dtype).cast(DType::F32);
            (weight.clone(), Weight::Dense(param(there::<B, 2>(weight, dtype))))
        }
        Stored::Packed(format) => {
            let weight = weight.into_data().into_vec::<f32>().unwrap();
            let packed = Packed::<Flex>::pack(format, &weight, shape, &Default::default());
            (packed.unpack(), Weight::Packed(Packed::pack(format, &weight, shape, &Default::default())))
        }
    };
    let bias = bias.then(|| random([outputs], stored.bias(x)));
    let there_bias = bias.clone().map(|bias| param(there::<B, 1>(bias, stored.bias(x))));
    (Linear::of(Weight::Dense(param(here_weight)), bias.map(param)), Linear::of(there_weight, there_bias))
}

fn linear<B: Backend>(dtype: DType, stored: Stored) {
    let shapes = [(1, 4096, 384), (1, 96, 33), (2, 64, 1), (3, 992, 7), (8, 96, 17), (9, 128, 5), (31, 32, 40)];
    // So deep that tiles take several rounds.
    let deep = [(7, 2080, 40), (20, 1056, 40)];
    // Rows that no vector divides, and mixed 16-bit dtypes beyond 64 rows, are for dense weights of few rows.
    let odd = [(1, 100, 33), (3, 1001, 7), (9, 70, 5), (31, 33, 40)];
    let odd = odd.into_iter().filter(|_| matches!(stored, Stored::Dense(_)));
    let mixed = matches!(stored, Stored::Dense(weight) if weight != dtype && dtype != DType::F32);
    // So many outputs that cubes take more of them each.
    let wide = [(5, 584, 9000), (12, 1096, 5000)].into_iter().filter(|_| matches!(stored, Stored::Dense(_)));
    let many = [(64, 512, 64), (100, 160, 40), (600, 128, 72)].into_iter().filter(|(rows, ..)| *rows <= 64 || !mixed);
    for (rows, inputs, outputs) in shapes.into_iter().chain(deep).chain(odd).chain(wide).chain(many) {
        linear_of_shape::<B>(dtype, stored, [rows, inputs, outputs]);
    }
}

fn linear_of_shape<B: Backend>(dtype: DType, stored: Stored, [rows, inputs, outputs]: [usize; 3]) {
    let x = random([1, rows, inputs], dtype);
    let there_x = || there::<B, 3>(x.clone(), dtype);
    let (norm, there_norm) = norms::<B>(inputs, dtype);
    for bias in [false, true] {
        let (a, there_a) = layers::<B>(stored, dtype, [outputs, inputs], bias);
        let (b, there_b) = layers::<B>(stored, dtype, [outputs, inputs], bias);
        let (c, there_c) = layers::<B>(stored, dtype, [outputs + 3, inputs], bias);
        let label = format!("{rows} {inputs} {outputs} {stored:?} bias {bias}");
        let one = |x: &Tensor<Flex, 3>, layer| portable::linear(x.clone(), layer);
        for normed in [false, true] {
            let input = match normed {
                false => Input { x: there_x(), norm: None },
                true => there_norm.before(there_x()),
            };
            let x = if normed { norm.forward(x.clone()) } else { x.clone() };
            let got = B::linears(input.clone(), [&there_a, &there_b, &there_c]);
            for (got, layer) in got.into_iter().zip([&a, &b, &c]) {
                summed(got, one(&x, layer), dtype, &format!("linears {label} normed {normed}"));
            }
            let [got] = B::linears(input.clone(), [&there_c]);
            summed(got, one(&x, &c), dtype, &format!("one linear {label} normed {normed}"));
            let got = B::gated_linears(Activation::Silu, input, &there_a, &there_b);
            let (gate, up) = (one(&x, &a), one(&x, &b));
            let want = portable::gated(Activation::Silu, gate.clone(), up.clone());
            // What one factor's rounding costs grows with the other.
            let size = (gate.abs() + 1.0) * (up.abs() + 1.0) * 4.0;
            within(here(got, dtype), want, size, dtype, &format!("gated {label} normed {normed}"));
        }
        let residual = random([1, rows, outputs], dtype);
        let got = B::linear_add(there_x(), &there_a, there(residual.clone(), dtype));
        summed(got, one(&x, &a) + residual, dtype, &format!("linear_add {label}"));
    }
}

/// Of products: their inputs, what is multiplied before a bias and weights that were unpacked are rounded, too, and of
/// many thousand sums the unluckiest is looked at.
fn summed<B: Backend, const D: usize>(got: Tensor<B, D>, want: Tensor<Flex, D>, dtype: DType, label: &str) {
    let size = (want.clone().abs() + 1.0) * 4.0;
    within(here(got, dtype), want, size, dtype, label);
}

/// Whole eights of groups and others, in one round of staging or several; whole blocks of sixteen outputs and others, one
/// to a cube, several, or more than there are cubes for at once; blocks that planes share, and planes that go on to the
/// next block, of the same matrix or the next; and groups that are odd in number, which other kernels take.
#[rstest]
#[ignore = "needs a GPU"]
fn one_row_by_packed_weights_equals_the_portable_body(
    #[values(DType::BF16, DType::F16)] dtype: DType,
    #[values(Format::Int8, Format::Int4, Format::Fp8)] format: Format,
) {
    print_warnings();
    let staged = [(32, 16), (64, 16), (320, 13), (2080, 33), (4160, 33), (14336, 130), (16448, 16)];
    let shared = [(1088, 3000), (1280, 3000), (64, 40000)];
    for (inputs, outputs) in staged.into_iter().chain(shared) {
        linear_of_shape::<Cuda>(dtype, Stored::Packed(format), [1, inputs, outputs]);
    }
}

/// Groups of noughts, of tiny and of huge numbers, and with one number that hides the others.
#[rstest]
#[ignore = "needs a GPU"]
fn one_row_of_uneven_size_by_packed_weights_equals_the_portable_body(
    #[values(DType::BF16, DType::F16)] dtype: DType,
    #[values(Format::Int8, Format::Int4, Format::Fp8)] format: Format,
) {
    print_warnings();
    let (least, most) = if dtype == DType::BF16 { (2f64.powi(-130), 2f64.powi(60)) } else { (2f64.powi(-20), 64.0) };
    let x = random([1, 1, 256], dtype);
    let x = x.slice_assign([0..1, 0..1, 0..1], Tensor::full([1, 1, 1], 1000.0, &Default::default()));
    for factor in [0.0, least, 1.0, most] {
        // A group of each size stands beside ordinary ones.
        let group = x.clone().slice([0..1, 0..1, 32..64]).mul_scalar(factor).cast(dtype).cast(DType::F32);
        let x = x.clone().slice_assign([0..1, 0..1, 32..64], group);
        let (here_layer, there_layer) = layers::<Cuda>(Stored::Packed(format), dtype, [40, 256], false);
        let [got] = Cuda::linears(Input { x: there::<Cuda, 3>(x.clone(), dtype), norm: None }, [&there_layer]);
        let want = portable::linear(x.clone(), &here_layer);
        // Beside what rounding the sum costs, what its largest part may.
        let size = x.abs().max().into_scalar() / 64.0;
        within(here(got, dtype), want.clone(), want.abs() + size, dtype, &format!("{format:?} {factor}"));
    }
}

/// Times the norm's weight the row is beyond what f16 holds, and by the norm's scale inside again.
#[rstest]
#[ignore = "needs a GPU"]
fn one_row_of_f16_is_normed_by_packed_weights_as_by_the_portable_body(
    #[values(Format::Int8, Format::Int4, Format::Fp8)] format: Format,
) {
    print_warnings();
    let x = (random([1, 1, 320], DType::F16) * 8000.0).cast(DType::F16).cast(DType::F32);
    let weight = random([320], DType::F16) + 16.0;
    let weight = weight.cast(DType::F16).cast(DType::F32);
    let norm = RmsNorm::<Flex>::of(param(weight.clone()), 1e-5);
    let there_norm = RmsNorm::<Cuda>::of(param(there(weight, DType::F16)), 1e-5);
    let (here_layer, there_layer) = layers::<Cuda>(Stored::Packed(format), DType::F16, [40, 320], false);
    let [got] = Cuda::linears(there_norm.before(there::<Cuda, 3>(x.clone(), DType::F16)), [&there_layer]);
    let want = portable::linear(norm.forward(x), &here_layer);
    // Inputs of 16 or so, rounded.
    let size = want.clone().abs() + 16.0;
    within(here(got, DType::F16), want, size, DType::F16, &format!("{format:?}"));
}

/// One large weight makes all others of its block numbers below the smallest normal one.
#[test]
#[ignore = "needs a GPU"]
fn one_row_by_the_smallest_floats_of_8_bits_equals_the_portable_body() {
    print_warnings();
    let shape @ [outputs, inputs] = [32, 128];
    let weight =
        (0..outputs * inputs).map(|i| if i % inputs == 0 { 448.0 } else { (i % 15) as f32 / 512.0 - 7.0 / 512.0 });
    let weight: Vec<f32> = weight.collect();
    let device = Default::default();
    let here_weight = Packed::<Flex>::pack(Format::Fp8, &weight, shape, &device).unpack();
    let there_weight = Weight::Packed(Packed::pack(Format::Fp8, &weight, shape, &Default::default()));
    for dtype in [DType::BF16, DType::F16] {
        let first = Tensor::<Flex, 3>::zeros([1, 1, 1], (&device, DType::F32));
        let x = Tensor::cat(vec![first, random([1, 1, inputs - 1], dtype) * 64.0], 2);
        let [got] = Cuda::linears(
            Input { x: there::<Cuda, 3>(x.clone(), dtype), norm: None },
            [&Linear::of(there_weight.clone(), None)],
        );
        let want = portable::linear(x, &Linear::of(Weight::Dense(param(here_weight.clone())), None));
        same(got, want, dtype, "smallest floats");
    }
}

#[rstest]
#[ignore = "needs a GPU"]
fn linear_equals_the_portable_body(
    #[values(DType::F32, DType::BF16, DType::F16)] dtype: DType,
    #[values(
        Stored::Dense(DType::F32),
        Stored::Dense(DType::BF16),
        Stored::Dense(DType::F16),
        Stored::Packed(Format::Int8),
        Stored::Packed(Format::Int4),
        Stored::Packed(Format::Fp8)
    )]
    stored: Stored,
) {
    print_warnings();
    linear::<Cuda>(dtype, stored);
}
