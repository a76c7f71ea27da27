//! Linear layers alone: `cargo bench -p leveret-models --bench kernels [--features cuda -- cuda] [ROWS ..]`; one JSON
//! object.
//!
//! Each weight is one of several copies that caches do not hold together; rates count the bytes of weights as they are
//! stored, and on a CPU are held against the memory's rate just before, round by round. Medians of rounds. Models lie in
//! huge pages: so do these weights with `GLIBC_TUNABLES=glibc.malloc.hugetlb=1`.

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::Instant;

use burn::module::{Param, ParamId};
use burn::prelude::Tensor;
use burn::tensor::{DType, TensorData};
use leveret_models::layers::Linear;
use leveret_models::weight::{Format, Packed, Part, Weight};
use leveret_models::{Activation, Backend};
use rayon::prelude::*;
use serde_json::{Value, json};

/// Bytes of all copies of a weight: more than any cache.
const COPIES: usize = 256 << 20;

/// Seconds that a case is repeated for, in each of the rounds.
const SECONDS: f64 = 0.15;
const ROUNDS: usize = 7;

/// Calls between two waits for the device, at most: enough that waiting costs little.
const TOGETHER: usize = 64;

/// Llama-3.1-8B's matrices: o (and q), down, gate (and up).
const SHAPES: [[usize; 2]; 3] = [[4096, 4096], [4096, 14336], [14336, 4096]];

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let rows: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let or = |all: &[usize]| if rows.is_empty() { all.to_vec() } else { rows.clone() };
    let report = match arguments.first().map(String::as_str) {
        #[cfg(feature = "cuda")]
        Some("cuda") => run::<burn::backend::Cuda>(&or(&[1, 2, 4, 8, 16, 32, 64, 128, 512, 2048]), DType::BF16, None),
        _ => run::<burn::backend::Flex>(&or(&[1, 4, 16, 256]), DType::BF16, Some(read_rate)),
    };
    println!("{report:#}");
}

/// How weights are stored.
#[derive(Clone, Copy)]
enum Stored {
    Dense,
    Packed(Format),
}

/// One layer, and how many bytes its weight takes.
struct Case<B: Backend> {
    name: String,
    shape: [usize; 2],
    bytes: usize,
    copies: Vec<Linear<B>>,
}

fn run<B: Backend>(rows: &[usize], dtype: DType, memory: Option<fn() -> f64>) -> Value {
    let device = B::Device::default();
    let stored = [Stored::Dense].into_iter().chain(Format::ALL.map(Stored::Packed));
    let cases = stored.flat_map(|stored| SHAPES.map(|shape| (stored, shape)));
    let mut results = Vec::new();
    for (stored, shape) in cases {
        let case = Case::<B>::new(stored, shape, &device);
        for &rows in rows {
            let x = hidden::<B>(rows, shape[1], dtype, &device);
            let mut next = case.copies.iter().cycle();
            let mut one = || {
                let layer = next.next().expect("there is a copy");
                black_box(B::linears(x.clone().into(), [layer]));
            };
            let (mut seconds, mut shares) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let rate = memory.map(|rate| rate());
                let took = seconds_of(&mut one, || B::sync(&device).expect("the device works"));
                shares.extend(rate.map(|rate| case.bytes as f64 / took / rate));
                seconds.push(took);
            }
            results.push(case.result(rows, median(seconds), (!shares.is_empty()).then(|| median(shares))));
        }
        if let (Stored::Dense, [14336, _]) = (stored, shape) {
            results.push(gated(&case, dtype, &device));
        }
    }
    let commit = std::env::var("COMMIT").unwrap_or_default();
    json!({"device": format!("{device:?}"), "commit": commit, "activations": format!("{dtype:?}"), "results": results})
}

/// A gate and its partner for one row, as an MLP begins.
fn gated<B: Backend>(case: &Case<B>, dtype: DType, device: &B::Device) -> Value {
    let x = hidden::<B>(1, case.shape[1], dtype, device);
    let mut next = case.copies.iter().cycle();
    let mut one = || {
        let (gate, up) = (next.next().expect("a copy"), next.next().expect("a copy"));
        black_box(B::gated_linears(Activation::Silu, x.clone().into(), gate, up));
    };
    let seconds = (0..ROUNDS).map(|_| seconds_of(&mut one, || B::sync(device).expect("the device works"))).collect();
    let seconds = median(seconds);
    json!({"weights": "gate and up", "rows": 1, "us": seconds * 1e6, "gb_per_s": 2.0 * case.bytes as f64 / seconds / 1e9})
}

impl<B: Backend> Case<B> {
    fn new(stored: Stored, shape: [usize; 2], device: &B::Device) -> Self {
        let weights: Vec<f32> =
            (0..shape[0] * shape[1]).map(|i| ((i * 7919 % 2017) as f32 / 1008.0 - 1.0) * 0.02).collect();
        let (name, bytes) = match stored {
            Stored::Dense => ("bf16".to_owned(), 2 * weights.len()),
            Stored::Packed(format) => (format.to_string(), format.parts(shape).iter().map(|part| part.len()).sum()),
        };
        // An even number, for those who take two.
        let count = COPIES.div_ceil(bytes).next_multiple_of(2);
        let parts = match stored {
            Stored::Dense => None,
            Stored::Packed(format) => Some((format, format.pack(&weights, shape))),
        };
        let copy = |_| {
            let weight = match &parts {
                None => {
                    let data = TensorData::new(weights.clone(), shape).convert_dtype(DType::BF16);
                    Weight::Dense(Param::initialized(ParamId::new(), Tensor::from_data(data, (device, DType::BF16))))
                }
                Some((format, [codes, scales])) => {
                    let [of_codes, of_scales] = format.parts(shape);
                    let tensor = |bytes: &[u8], part: Part| {
                        let data = TensorData::from_bytes_vec(bytes.to_vec(), part.shape, part.dtype);
                        Tensor::from_data(data, (device, part.dtype))
                    };
                    Weight::Packed(Packed::new(*format, shape, tensor(codes, of_codes), tensor(scales, of_scales)))
                }
            };
            Linear::of(weight, None)
        };
        Self { name, shape, bytes, copies: (0..count).map(copy).collect() }
    }

    fn result(&self, rows: usize, seconds: f64, of_memory: Option<f64>) -> Value {
        let rate = self.bytes as f64 / seconds;
        let operations = 2.0 * (rows * self.shape[0] * self.shape[1]) as f64;
        json!({
            "weights": self.name,
            "out": self.shape[0],
            "in": self.shape[1],
            "rows": rows,
            "us": seconds * 1e6,
            "gb_per_s": rate / 1e9,
            "of_memory": of_memory,
            "gflop_per_s": operations / seconds / 1e9,
        })
    }
}

fn hidden<B: Backend>(rows: usize, inputs: usize, dtype: DType, device: &B::Device) -> Tensor<B, 3> {
    let numbers: Vec<f32> = (0..rows * inputs).map(|i| (i * 31 % 101) as f32 / 50.0 - 1.0).collect();
    Tensor::from_data(TensorData::new(numbers, [1, rows, inputs]).convert_dtype(dtype), (device, dtype))
}

/// Seconds that one call takes among many.
fn seconds_of(one: &mut impl FnMut(), wait: impl Fn()) -> f64 {
    one();
    wait();
    let (begun, mut calls) = (Instant::now(), 0);
    while calls == 0 || begun.elapsed().as_secs_f64() < SECONDS {
        let together = TOGETHER.min(2 * calls.max(1));
        (0..together).for_each(|_| one());
        wait();
        calls += together;
    }
    begun.elapsed().as_secs_f64() / calls as f64
}

/// Bytes a second that all cores together read of memory.
fn read_rate() -> f64 {
    // One for all rounds: huge pages are given to some vectors and not to others.
    static MEMORY: LazyLock<Vec<u64>> = LazyLock::new(|| vec![1; COPIES / 8]);
    let memory = &*MEMORY;
    let sum = || -> u64 {
        memory.par_chunks(1 << 16).map(|part| part.iter().fold(0, |a, b| a ^ b)).reduce(|| 0, |a, b| a ^ b)
    };
    let mut one = || {
        black_box(sum());
    };
    COPIES as f64 / seconds_of(&mut one, || ())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
