use super::attention_block::Block;
use super::level::Level;
use super::numbers::NumbersMut;
use super::team;
use super::view::View;
use crate::layers::Mask;

/// Rows of scores that a thread computes at a time: the queries of a few columns, of all heads that share a key.
const ROWS: usize = 112;

/// Attention of queries over keys and values as they lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention<'a> {
    /// Queries `[batch, num_heads, q, head_dim]`.
    pub(crate) q: View<'a>,
    /// Keys `[batch, num_kv_heads, k, head_dim]`.
    pub(crate) k: View<'a>,
    /// Values `[batch, num_kv_heads, k, head_dim]`.
    pub(crate) v: View<'a>,
    /// Which keys each query sees.
    pub(crate) mask: &'a Mask<'a>,
    /// What scores are multiplied by.
    pub(crate) scale: f32,
    /// What scaled scores are held below in size, smoothly.
    pub(crate) softcap: Option<f32>,
    /// A score of each head that counts in the softmax and has no value, `[num_heads]`.
    pub(crate) sinks: Option<&'a [f32]>,
}

impl Attention<'_> {
    /// Writes the mixtures of values, `[batch, q, num_heads, head_dim]`.
    pub(crate) fn write(self, to: NumbersMut) {
        self.write_at(Level::best(), to);
    }

    /// Does what [`write`](Self::write) does with the instructions of `level`.
    pub(super) fn write_at(self, level: Level, to: NumbersMut) {
        let [batch, _, queries, head_dim] = self.q.shape;
        let (kv_heads, group) = (self.k.shape[1], self.group());
        let run = (ROWS / group).clamp(1, queries.max(1));
        let runs = queries.div_ceil(run);
        let blocks = (0..batch * kv_heads * runs).map(|i| {
            let first = i % runs * run;
            let queries = first..queries.min(first + run);
            Block { of: self, sequence: i / runs / kv_heads, kv_head: i / runs % kv_heads, queries, y: Vec::new() }
        });
        let mut blocks: Vec<_> = blocks.collect();
        for (i, to) in to.chunks((group * head_dim).max(1)).into_iter().enumerate() {
            let (sequence, query, kv_head) = (i / kv_heads / queries, i / kv_heads % queries, i % kv_heads);
            blocks[(sequence * kv_heads + kv_head) * runs + query / run].y.push(to);
        }
        // Later queries see more: begun first, they are not waited for at the end.
        team::each(blocks.into_iter().rev(), |block| level.run(block));
    }

    /// Query heads that share a key head.
    pub(super) fn group(&self) -> usize {
        self.q.shape[1] / self.k.shape[1]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::cpu::Numbers;
    use crate::layers::{PAD, Positions};

    /// Numbers from -2 to 2.
    fn numbers(len: usize, seed: u64) -> Vec<f32> {
        let number = |i: usize| (i as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (0..len).map(|i| number(i + 1) as f32 / (1 << 22) as f32 - 2.0).collect()
    }

    fn view(numbers: &[f32], shape: [usize; 4]) -> View<'_> {
        let strides = [shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3]];
        View { numbers: Numbers::F32(numbers), start: 0, strides, shape }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Every instruction set gives what the definition gives, for any lengths, widths, padding and windows.
        #[test]
        fn every_level_equals_the_definition(
            queries in 1_usize..70, past in 0_usize..150, kv_heads in 1_usize..4, group in 1_usize..8,
            head_dim in 1_usize..100, pad in 0_usize..4, window in prop::option::of(1_usize..80),
            softcap in prop::option::of(1_f32..20.0), has_sinks: bool, seed: u64,
        ) {
            let columns = past + queries;
            let place = |i: usize| if i < pad { PAD } else { (i - pad) as i32 };
            let positions = Positions::new(1, (0..columns).map(place).collect());
            let last = positions.narrow(past..columns);
            let mask = Mask::new(&last, &positions, 0, window);
            let (q_shape, kv_shape) =
                ([1, kv_heads * group, queries, head_dim], [1, kv_heads, columns, head_dim]);
            let q = numbers(q_shape.iter().product(), seed);
            let [k, v] = [1, 2].map(|i| numbers(kv_shape.iter().product(), seed.wrapping_add(i)));
            let scale = 0.3;
            let sinks = numbers(q_shape[1], seed.wrapping_add(3));
            let sinks = has_sinks.then_some(sinks.as_slice());
            let [q_view, k_view, v_view] = [view(&q, q_shape), view(&k, kv_shape), view(&v, kv_shape)];
            let attention = Attention { q: q_view, k: k_view, v: v_view, mask: &mask, scale, softcap, sinks };
            for level in Level::all() {
                let mut got = vec![f32::NAN; q.len()];
                attention.write_at(level, NumbersMut::F32(&mut got));
                prop_assert!(got.iter().all(|x| x.is_finite()));
                for (row, got) in got.chunks(head_dim).enumerate() {
                    let (query, head) = (row / (kv_heads * group), row % (kv_heads * group));
                    let of = |x: &'_ [f32], column: usize, i: usize| {
                        f64::from(x[(head / group * columns + column) * head_dim + i])
                    };
                    let score = |column| {
                        let q = &q[(head * queries + query) * head_dim..][..head_dim];
                        let products = q.iter().enumerate().map(|(i, q)| f64::from(q * scale) * of(&k, column, i));
                        let score: f64 = products.sum();
                        let capped = |cap: f64| (score / cap).tanh() * cap;
                        softcap.map_or(score, |cap| capped(cap.into()))
                    };
                    let seen: Vec<_> = (0..columns).filter(|column| mask.sees(0, query, *column)).collect();
                    let scores: Vec<_> = seen.iter().map(|column| score(*column)).collect();
                    let sink = sinks.map_or(f64::MIN, |sinks| sinks[head].into());
                    let greatest = scores.iter().copied().fold(sink, f64::max);
                    let all = scores.iter().copied().chain([sink]);
                    let sum: f64 = all.map(|score| (score - greatest).exp()).sum();
                    for (i, got) in got.iter().enumerate().filter(|_| !seen.is_empty()) {
                        let parts = seen.iter().zip(&scores);
                        let want: f64 = parts.map(|(c, score)| (score - greatest).exp() / sum * of(&v, *c, i)).sum();
                        prop_assert!((f64::from(*got) - want).abs() < 1e-4, "{level:?}: {got}, want {want}");
                    }
                }
            }
        }
    }
}
