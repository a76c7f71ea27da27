use half::{bf16, f16};
use proptest::prelude::*;

use super::level::Level;
use super::multiply::multiply_at;
use super::{Exact, Matrix, Weights, multiply_each};

const EXACT: [Exact; 3] = [Exact::F32, Exact::F16, Exact::Bf16];

const KINDS: [&str; 6] = ["f32", "bf16", "f16", "int8", "int4", "fp8"];

/// A matrix that owns its numbers.
#[derive(Clone, Default)]
struct Store {
    kind: &'static str,
    outputs: usize,
    inputs: usize,
    f32: Vec<f32>,
    bf16: Vec<bf16>,
    f16: Vec<f16>,
    i8: Vec<i8>,
    u8: Vec<u8>,
    u16: Vec<u16>,
}

impl Store {
    fn random(kind: &'static str, outputs: usize, inputs: usize, random: &mut Random) -> Self {
        let mut store = Self { kind, outputs, inputs, ..Self::default() };
        let all = outputs * inputs;
        let scales = |random: &mut Random| (0..all / 32).map(|_| bf16::from_f32(random.number().abs())).collect();
        match kind {
            "f32" => store.f32 = random.numbers(all),
            "bf16" => store.bf16 = random.numbers(all).into_iter().map(bf16::from_f32).collect(),
            "f16" => store.f16 = random.numbers(all).into_iter().map(f16::from_f32).collect(),
            "int8" => {
                store.i8 = (0..all).map(|_| random.byte() as i8).collect();
                store.bf16 = scales(random);
            }
            "int4" => {
                store.u8 = (0..all / 2).map(|_| random.byte()).collect();
                let word = |scale: f32, zero: u8| (scale.to_bits() >> 19 << 4) as u16 | u16::from(zero & 15);
                store.u16 = (0..all / 32).map(|_| word(random.number().abs(), random.byte())).collect();
            }
            _ => {
                let code = |byte| if byte & 0x7f == 0x7f { 0 } else { byte };
                store.u8 = (0..all).map(|_| code(random.byte())).collect();
                store.f32 = random.numbers(outputs.div_ceil(128) * inputs.div_ceil(128));
            }
        }
        store
    }

    fn matrix(&self) -> Matrix<'_> {
        let weights = match self.kind {
            "f32" => Weights::F32(&self.f32),
            "bf16" => Weights::Bf16(&self.bf16),
            "f16" => Weights::F16(&self.f16),
            "int8" => Weights::Int8 { codes: &self.i8, scales: &self.bf16 },
            "int4" => Weights::Int4 { codes: &self.u8, scales: &self.u16 },
            _ => Weights::Fp8 { codes: &self.u8, scales: &self.f32 },
        };
        Matrix::new(weights, self.outputs, self.inputs)
    }

    /// A weight, as the description of its format says.
    fn weight(&self, output: usize, input: usize) -> f64 {
        let at = output * self.inputs + input;
        match self.kind {
            "f32" => self.f32[at].into(),
            "bf16" => self.bf16[at].into(),
            "f16" => self.f16[at].into(),
            "int8" => f64::from(self.i8[at]) * f64::from(self.bf16[at / 32]),
            "int4" => {
                let byte = self.u8[at / 32 * 16 + at % 16];
                let nibble = if at % 32 < 16 { byte & 15 } else { byte >> 4 };
                let word = self.u16[at / 32];
                f64::from(f32::from_bits(u32::from(word >> 4) << 19)) * (f64::from(nibble) - f64::from(word & 15))
            }
            _ => e4m3(self.u8[at]) * f64::from(self.f32[output / 128 * self.inputs.div_ceil(128) + input / 128]),
        }
    }
}

fn e4m3(code: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f64::from(code & 7));
    let magnitude = match exponent {
        _ if code & 0x7f == 0x7f => f64::NAN,
        0 => mantissa / 8.0 * 2_f64.powi(-6),
        _ => (1.0 + mantissa / 8.0) * 2_f64.powi(exponent - 7),
    };
    if code & 0x80 != 0 { -magnitude } else { magnitude }
}

/// A generator of numbers, SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    /// From -2 to 2, now and then of quite another size, or zero.
    fn number(&mut self) -> f32 {
        let number = (self.next() >> 40) as f32 / (1 << 22) as f32 - 2.0;
        match self.next() % 16 {
            0 => number * 30.0,
            1 => number * 1e-3,
            2 => 0.0,
            _ => number,
        }
    }

    fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }
}

/// Checks `y` against products in f64: within what rounding of sums, of weights to bf16 where `x` is exact in it, and
/// of `x` to integers may cost.
fn check(store: &Store, x: &[f32], exact: Exact, y: &[f32], case: &str) {
    assert_eq!(y.len(), x.len() / store.inputs * store.outputs);
    let few = x.len() / store.inputs <= 8;
    let steps = match store.kind {
        "int8" if few => 65000.0,
        "int4" if few => 253.0,
        _ => f64::INFINITY,
    };
    let sums = if exact == Exact::Bf16 && !few && matches!(store.kind, "int8" | "int4" | "fp8") { 4e-3 } else { 1e-5 };
    for (row, x) in x.chunks(store.inputs).enumerate() {
        for output in 0..store.outputs {
            let (mut want, mut tolerance) = (0.0, 1e-30);
            for (group, x) in x.chunks(32).enumerate() {
                let greatest = x.iter().fold(0.0_f32, |greatest, x| greatest.max(x.abs()));
                for (i, x) in x.iter().enumerate() {
                    let weight = store.weight(output, 32 * group + i);
                    want += weight * f64::from(*x);
                    tolerance += sums * (weight * f64::from(*x)).abs();
                    tolerance += weight.abs() * f64::from(greatest) / steps;
                }
            }
            let got = f64::from(y[row * store.outputs + output]);
            assert!((got - want).abs() <= tolerance, "{case} row {row}, {output}: {got}, want {want}");
        }
    }
}

/// Checks products of a random matrix on every instruction set.
fn check_at_every_level(kind: &'static str, [rows, outputs, inputs]: [usize; 3], exact: Exact, seed: u64) {
    let inputs = if matches!(kind, "int8" | "int4") { inputs.next_multiple_of(32) } else { inputs };
    let mut random = Random(seed);
    let store = Store::random(kind, outputs, inputs, &mut random);
    let x = inputs_of(exact, random.numbers(rows * inputs));
    for level in Level::all() {
        let y = multiply_at(level, &x, exact, &[store.matrix()]).remove(0);
        check(&store, &x, exact, &y, &format!("{level:?} {kind} {exact:?} [{rows}, {inputs}] by {outputs}"));
    }
}

fn kind() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&KINDS[..])
}

fn exact() -> impl Strategy<Value = Exact> {
    prop::sample::select(&EXACT[..])
}

/// The numbers, rounded to what they are said to be exact in.
fn inputs_of(exact: Exact, mut numbers: Vec<f32>) -> Vec<f32> {
    let round = |number: f32| match exact {
        Exact::F32 => number,
        Exact::F16 => f16::from_f32(number).to_f32(),
        Exact::Bf16 => bf16::from_f32(number).to_f32(),
    };
    numbers.iter_mut().for_each(|number| *number = round(*number));
    numbers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Every kind of weights, on every instruction set, few rows and many, gives the products of its definition.
    #[test]
    fn products_equal_their_definition(
        kind in kind(), rows in 1_usize..50, outputs in 1_usize..150, inputs in 1_usize..1300, exact in exact(), seed: u64,
    ) {
        let rows = if rows > 25 { rows - 25 } else { rows % 8 + 1 };
        check_at_every_level(kind, [rows, outputs, inputs], exact, seed);
    }

    /// Also where a thread takes several tiles at a time.
    #[test]
    fn products_of_large_panels_equal_their_definition(
        kind in kind(), rows in 9_usize..70, outputs in 100_usize..600, inputs in 1_usize..300, exact in exact(), seed: u64,
    ) {
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        alone.install(|| check_at_every_level(kind, [rows, outputs, inputs], exact, seed));
    }

    /// Also where rows are so long that their columns are taken in pieces.
    #[test]
    fn products_of_long_rows_equal_their_definition(
        kind in kind(), rows in 1_usize..4, outputs in 1_usize..7, inputs in 4000_usize..15000, exact in exact(), seed: u64,
    ) {
        check_at_every_level(kind, [rows, outputs, inputs], exact, seed);
    }

    /// A row's result does not depend on its neighbours, to the bit, few rows or many.
    #[test]
    fn rows_are_independent(
        kind in kind(), rows in prop::sample::select(vec![2_usize, 5, 8, 9, 40]), row in 0_usize..40, exact in exact(),
        is_long: bool, seed: u64,
    ) {
        let ([outputs, inputs], row) = (if is_long { [3, 9600] } else { [45, 288] }, row % rows);
        let mut random = Random(seed);
        let store = Store::random(kind, outputs, inputs, &mut random);
        let x = inputs_of(exact, random.numbers(rows * inputs));
        let mut other = inputs_of(exact, random.numbers(rows * inputs));
        let part = row * inputs..(row + 1) * inputs;
        other[part.clone()].copy_from_slice(&x[part]);
        other[(row + 1) % rows * inputs] = f32::NAN;
        for level in Level::all() {
            let [x, other] = [&x, &other].map(|x| multiply_at(level, x, exact, &[store.matrix()]).remove(0));
            let bits = |y: &[f32]| y[row * outputs..][..outputs].iter().map(|y| y.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&x), bits(&other), "{:?} {}", level, kind);
        }
    }

    /// Several matrices at once give what each gives alone, and every instruction set what the others do, nearly.
    #[test]
    fn matrices_together_equal_each_alone(rows in 1_usize..20, exact in exact(), seed: u64) {
        let mut random = Random(seed);
        let stores = KINDS.map(|kind| Store::random(kind, 1 + usize::from(random.byte()), 192, &mut random));
        let x = inputs_of(exact, random.numbers(rows * 192));
        let together = multiply_each(&x, exact, &stores.each_ref().map(Store::matrix));
        for (store, together) in stores.iter().zip(together) {
            prop_assert_eq!(multiply_each(&x, exact, &[store.matrix()]).remove(0), together);
        }
    }
}

/// Groups of zeros, with a scale of zero or not, are zeros.
#[test]
fn zeros_are_zeros() {
    for level in Level::all() {
        for kind in KINDS {
            for (rows, exact) in [(1, Exact::F32), (20, Exact::F32), (20, Exact::Bf16)] {
                let mut store = Store::random(kind, 7, 160, &mut Random(1));
                store.f32.fill(0.0);
                store.bf16.fill(bf16::ZERO);
                store.u16.fill(5);
                store.f16.fill(f16::ZERO);
                let x = inputs_of(exact, Random(2).numbers(rows * 160));
                let y = multiply_at(level, &x, exact, &[store.matrix()]).remove(0);
                assert!(y.iter().all(|y| *y == 0.0), "{level:?} {kind}");
                let store = Store::random(kind, 7, 160, &mut Random(1));
                let y = multiply_at(level, &vec![0.0; rows * 160], exact, &[store.matrix()]).remove(0);
                assert!(y.iter().all(|y| *y == 0.0), "{level:?} {kind}");
            }
        }
    }
}

/// A number that is not finite makes every product it is in one that is not, and no other.
#[test]
fn what_is_not_finite_stays_so() {
    for (level, kind) in Level::all().into_iter().flat_map(|level| KINDS.map(|kind| (level, kind))) {
        let cases = [(3, f32::NAN), (20, f32::NAN), (3, f32::INFINITY), (20, f32::NEG_INFINITY)];
        for ((rows, bad), exact) in cases.into_iter().flat_map(|case| EXACT.map(|exact| (case, exact))) {
            let mut store = Store::random(kind, 9, 160, &mut Random(3));
            store.f32.iter_mut().for_each(|n| *n = n.abs() + 1.0);
            let mut x = vec![1.0; rows * 160];
            x[160 + 77] = bad;
            let y = multiply_at(level, &x, exact, &[store.matrix()]).remove(0);
            for (i, y) in y.iter().enumerate() {
                let zero = store.weight(i % 9, 77) == 0.0;
                assert!(zero || y.is_finite() == (i / 9 != 1), "{level:?} {kind} {rows} {bad}: {y} at {i}");
            }
            let at = 2 * 160 + 99;
            match kind {
                "f32" => store.f32[at] = bad,
                "bf16" => store.bf16[at] = bf16::from_f32(bad),
                "f16" => store.f16[at] = f16::from_f32(bad),
                "fp8" => store.u8[at] = 0xff,
                "int4" => store.u16[at / 32] = 0xff80,
                _ => store.bf16[at / 32] = bf16::from_f32(bad),
            }
            let y = multiply_at(level, &vec![1.0; rows * 160], exact, &[store.matrix()]).remove(0);
            assert!(y.iter().enumerate().all(|(i, y)| y.is_finite() == (i % 9 != 2)), "{level:?} {kind} {rows} {bad}");
        }
    }
}

/// Every code of E4M3 and every f16, denormals among them, is widened to the number that it is.
#[test]
fn every_code_is_widened() {
    let mut fp8 = Store { kind: "fp8", outputs: 256, inputs: 130, f32: vec![3.0; 4], ..Store::default() };
    fp8.u8 = (0..256 * 130).map(|i| if i % 130 == 129 { (i / 130) as u8 } else { 0 }).collect();
    let mut f16s = Store { kind: "f16", outputs: 1 << 16, inputs: 1, ..Store::default() };
    f16s.f16 = (0..=u16::MAX).map(f16::from_bits).collect();
    for level in Level::all() {
        for (rows, exact) in [(1, Exact::F32), (10, Exact::F32), (10, Exact::Bf16)] {
            for store in [&fp8, &f16s] {
                let y = multiply_at(level, &vec![1.0; rows * store.inputs], exact, &[store.matrix()]).remove(0);
                for (i, y) in y.iter().enumerate() {
                    let want = store.weight(i % store.outputs, store.inputs - 1);
                    assert!(f64::from(*y) == want || y.is_nan() && want.is_nan(), "{level:?} {i} {y} {want}");
                }
            }
        }
    }
}

/// Inputs too small to be normal numbers are no trouble to those that are.
#[test]
fn denormals_are_harmless() {
    for (level, kind) in Level::all().into_iter().flat_map(|level| KINDS.map(|kind| (level, kind))) {
        let store = Store::random(kind, 9, 160, &mut Random(5));
        let mut x = Random(6).numbers(160);
        x[32..96].fill(1e-41);
        let y = multiply_at(level, &x, Exact::F32, &[store.matrix()]).remove(0);
        check(&store, &x, Exact::F32, &y, &format!("{level:?} {kind}"));
    }
}
