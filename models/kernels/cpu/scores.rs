use super::exp::exp;
use super::simd::Simd;
use crate::layers::PAD;

/// Keys whose scores exist at a time.
pub(super) const KEYS: usize = 64;

/// Lanes of sums, for a compiler to make vectors of.
const LANES: usize = 16;

/// What is known of a row's softmax so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Softmax {
    pub(super) max: f32,
    pub(super) sum: f32,
}

impl Default for Softmax {
    fn default() -> Self {
        Self { max: f32::MIN, sum: 0.0 }
    }
}

impl Softmax {
    /// One score has been seen, and no value.
    pub(super) fn of(score: f32) -> Self {
        Self { max: score, sum: 1.0 }
    }

    /// Makes weights of scores; what came before them is to be multiplied by the result.
    #[inline(always)]
    pub(super) fn add(&mut self, scores: &mut [f32; KEYS]) -> f32 {
        let mut lanes = [f32::MIN; LANES];
        for scores in scores.as_chunks::<LANES>().0 {
            lanes.iter_mut().zip(scores).for_each(|(max, score)| *max = if *score > *max { *score } else { *max });
        }
        let max = lanes.iter().fold(self.max, |max, lane| if *lane > max { *lane } else { max });
        let mut sums = [0.0; LANES];
        for scores in scores.as_chunks_mut::<LANES>().0 {
            for (score, sum) in scores.iter_mut().zip(&mut sums) {
                *score = exp(*score - max);
                *sum += *score;
            }
        }
        let rescale = exp(self.max - max);
        *self = Self { max, sum: self.sum * rescale + sums.iter().sum::<f32>() };
        rescale
    }
}

/// Makes `softcap · tanh(score / softcap)` of each score.
#[inline(always)]
pub(super) fn cap(scores: &mut [f32; KEYS], softcap: f32) {
    for score in scores {
        // Of a power that does not overflow: both signs have it.
        let small = exp(score.abs() * (-2.0 / softcap));
        *score = (softcap * (1.0 - small) / (1.0 + small)).copysign(*score);
    }
}

/// Hides the keys beyond the first `len`.
#[inline(always)]
pub(super) fn cut(scores: &mut [f32; KEYS], len: usize) {
    scores[len..].fill(f32::NEG_INFINITY);
}

/// Hides the keys that a query does not see.
#[inline(always)]
pub(super) fn hide(scores: &mut [f32; KEYS], query: i32, keys: &[i32], window: i32) {
    for (score, key) in scores.iter_mut().zip(keys) {
        let seen = (*key != PAD) & (*key <= query) & (query.wrapping_sub(*key) < window);
        *score = if seen { *score } else { f32::MIN };
    }
}

/// Writes the scores `[rows, KEYS]` of all keys, `[KEYS, width]`, for each of a few rows of `q`, `[rows, width]`.
#[inline(always)]
pub(super) fn dots<S: Simd>(simd: S, q: &[f32], keys: &[f32], width: usize, scores: &mut [f32]) {
    for (q, scores) in q.chunks_exact(width).zip(scores.chunks_exact_mut(KEYS)) {
        for (keys, scores) in keys.chunks_exact(4 * width).zip(scores.as_chunks_mut::<4>().0) {
            let mut sums = [simd.splat(0.0); 4];
            for at in (0..width).step_by(S::LANES) {
                let q: &[f32] = &q[at..][..S::LANES];
                // SAFETY: a register's numbers are there, of `q` and of each key.
                let x = unsafe { simd.load(q.as_ptr()) };
                for (i, sum) in sums.iter_mut().enumerate() {
                    let key: &[f32] = &keys[i * width + at..][..S::LANES];
                    // SAFETY: see above.
                    *sum = simd.fma(x, unsafe { simd.load(key.as_ptr()) }, *sum);
                }
            }
            for (score, sum) in scores.iter_mut().zip(sums) {
                *score = simd.sum(sum);
            }
        }
    }
}
