use super::exact::Exact;
use super::level::Level;
use super::numbers::rounded;
use super::simd::Simd;
use super::team;
use super::work::Work;

/// Rows that a thread takes at a time.
const RUN: usize = 8;

/// Makes of each row of `x` `x / sqrt(mean(x²) + eps) · weight`, rounded to what it is to be exact in.
pub(crate) fn rms_norm(x: &mut [f32], weight: &[f32], eps: f32, exact: Exact) {
    let level = Level::best();
    let run = |x: &mut [f32]| level.run(Norm { x, weight, eps, exact });
    let len = RUN * weight.len().max(1);
    if x.len() <= len { run(x) } else { team::each(x.chunks_mut(len), run) }
}

struct Norm<'a> {
    x: &'a mut [f32],
    weight: &'a [f32],
    eps: f32,
    exact: Exact,
}

impl Work for Norm<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        for row in self.x.chunks_mut(self.weight.len().max(1)) {
            normalise(row, self.weight, self.eps);
            if self.exact == Exact::Bf16 {
                row.iter_mut().for_each(|x| *x = f32::from_bits(rounded(*x) & 0xffff_0000));
            }
        }
    }
}

/// Norms one row.
#[inline(always)]
pub(super) fn normalise(row: &mut [f32], weight: &[f32], eps: f32) {
    let root = (squares(row) / row.len() as f32 + eps).sqrt();
    row.iter_mut().zip(weight).for_each(|(x, weight)| *x = *x / root * weight);
}

/// The sum of squares, in lanes that are added at the end.
#[inline(always)]
fn squares(row: &[f32]) -> f32 {
    let (lanes, rest) = row.as_chunks::<32>();
    let mut sums = [0.0; 32];
    for lanes in lanes {
        sums.iter_mut().zip(lanes).for_each(|(sum, x)| *sum += x * x);
    }
    sums.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>()
}
