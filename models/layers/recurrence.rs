//! A state that forgets what is old as it takes in what is new (Dao & Gu 2024, arXiv 2405.21060), and where it follows
//! the delta rule, learns only what it would have answered wrongly (Yang et al. 2024, arXiv 2412.06464).

use burn::prelude::Tensor;
use burn::tensor::{DType, TensorData};

use super::channel_recurrence;
use crate::{Backend, portable};

/// Columns that are computed at once, as products of matrices.
const BLOCK: usize = 64;

/// What heads tell and ask a state, column by column, in f32.
#[derive(Debug, Clone)]
pub struct Recurrence<B: Backend> {
    /// What is asked, `[batch, heads, seq, rows]`.
    pub q: Tensor<B, 4>,
    /// Under what it is kept, `[batch, heads, seq, rows]`.
    pub k: Tensor<B, 4>,
    /// What is kept, `[batch, heads, seq, columns]`.
    pub v: Tensor<B, 4>,
    /// The logarithm of what is left of the state or of each of its rows, `[batch, heads, seq, 1 or rows]`.
    pub decay: Tensor<B, 4>,
    /// How much of an error is made good by the delta rule, `[batch, heads, seq, 1]`.
    pub beta: Option<Tensor<B, 4>>,
}

/// Numbers that are computed with for each column, where heads keep so many rows and columns.
pub fn scratch([heads, rows, columns]: [usize; 3]) -> usize {
    heads * 6 * (rows + columns + BLOCK)
}

/// Numbers that are computed with at once where rows are forgotten apart.
pub fn scratch_of_rows([heads, rows, _]: [usize; 3]) -> usize {
    3 * heads * rows * channel_recurrence::BLOCK.pow(2)
}

impl<B: Backend> Recurrence<B> {
    /// The state `[batch, heads, rows, columns]` after these columns, and the answers `[batch, heads, seq, columns]`.
    pub fn apply(self, state: Tensor<B, 4>) -> (Tensor<B, 4>, Tensor<B, 4>) {
        match (self.q.dims()[2], self.decay.dims()[3]) {
            (1, _) => self.step(state),
            (_, 1) => self.blocks(state),
            _ => self.rows_apart(state),
        }
    }

    /// The same of one column.
    fn step(self, state: Tensor<B, 4>) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let state = state * self.decay.exp().swap_dims(2, 3);
        let news = match self.beta {
            Some(beta) => (self.v - B::matmul(self.k.clone(), state.clone())) * beta,
            None => self.v,
        };
        let state = state + self.k.swap_dims(2, 3) * news;
        let answer = B::matmul(self.q, state.clone());
        (state, answer)
    }

    /// The same of many, block by block: within one all columns at once (Yang et al. 2024, arXiv 2406.06484).
    fn blocks(self, state: Tensor<B, 4>) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let seq = self.q.dims()[2];
        let block = BLOCK.min(seq);
        let cut = |x: Tensor<B, 4>| {
            let [batch, heads, seq, width] = x.dims();
            let blocks = seq.div_ceil(block);
            // Zeros behind the last column change nothing.
            let rest = [batch, heads, blocks * block - seq, width];
            let x = if rest[2] == 0 {
                x
            } else {
                Tensor::cat(vec![x.clone(), Tensor::zeros(rest, (&x.device(), x.dtype()))], 2)
            };
            portable::split(x, [batch, heads, blocks, block, width])
        };
        let [q, k, v, decay] = [self.q, self.k, self.v, self.decay].map(cut);
        let masks = Masks::new(block, &q.device());

        let decay = decay.cumsum(3);
        // What is left in row i of column j, `[.., block, block]`: nothing above the diagonal.
        let left = (decay.clone() - decay.clone().swap_dims(3, 4) + masks.later.clone()).exp();
        let keys = k.clone().swap_dims(3, 4);
        // The news of a block, and what of them the state before it knows.
        let (news, known) = match self.beta.map(cut) {
            Some(beta) => {
                let learned = k.clone() * beta.clone();
                let inverse = masks.inverse(B::matmul(learned.clone(), keys.clone()) * left.clone());
                let known = B::matmul(inverse.clone(), learned * decay.clone().exp());
                (B::matmul(inverse, v * beta), Some(known))
            }
            None => (v, None),
        };
        let within = B::matmul(q.clone(), keys) * left;
        let q = q * decay.clone().exp();
        let end = decay.clone().narrow(3, block - 1, 1);
        let k = (k * (end.clone() - decay).exp()).swap_dims(3, 4);
        let end = end.exp();

        let [batch, heads, blocks, _, columns] = news.dims();
        let (mut state, mut answers) = (state, Vec::with_capacity(blocks));
        for index in 0..blocks {
            let of = |x: &Tensor<B, 5>| x.clone().narrow(2, index, 1).squeeze_dim::<4>(2);
            let news = match &known {
                Some(known) => of(&news) - B::matmul(of(known), state.clone()),
                None => of(&news),
            };
            answers.push(B::matmul(of(&q), state.clone()) + B::matmul(of(&within), news.clone()));
            state = state * of(&end) + B::matmul(of(&k), news);
        }
        let answers = Tensor::cat(answers, 2).reshape([batch, heads, blocks * block, columns]);
        (state, answers.narrow(2, 0, seq))
    }
}

/// Which rows of a block see which of its columns.
pub(super) struct Masks<B: Backend> {
    /// Added to exponents: no column sees a later one, `[1, 1, 1, block, block]`.
    pub(super) later: Tensor<B, 5>,
    /// The one on the diagonal, zero elsewhere.
    one: Tensor<B, 5>,
    /// For runs of 1, 2, 4 .. columns: one where a run's second neighbour sees the first.
    neighbours: Vec<Tensor<B, 5>>,
}

impl<B: Backend> Masks<B> {
    pub(super) fn new(block: usize, device: &B::Device) -> Self {
        let mask = |value: &dyn Fn(usize, usize) -> f32| {
            let values = (0..block).flat_map(|row| (0..block).map(move |column| (row, column)));
            let values: Vec<_> = values.map(|(row, column)| value(row, column)).collect();
            Tensor::from_data(TensorData::new(values, [1, 1, 1, block, block]), (device, DType::F32))
        };
        let number = |is: bool| f32::from(u8::from(is));
        let runs = std::iter::successors(Some(1), |run| Some(2 * run)).take_while(|run| *run < block);
        let neighbours =
            |run: usize| mask(&move |row, column| number(row / run % 2 == 1 && row / run - 1 == column / run));
        Self {
            later: mask(&|row, column| if column > row { -1e30 } else { 0.0 }),
            one: mask(&|row, column| number(row == column)),
            neighbours: runs.map(neighbours).collect(),
        }
    }

    /// The inverse of one plus what `x [.., block, block]` has below its diagonal.
    ///
    /// Two neighbouring runs of columns are inverted as one: of `[[A, 0], [C, B]]` the inverse has `-B⁻¹ C A⁻¹` in the
    /// place of `C`.
    pub(super) fn inverse(&self, x: Tensor<B, 5>) -> Tensor<B, 5> {
        let one = self.one.clone().expand(x.shape());
        self.neighbours.iter().enumerate().fold(one, |inverse, (index, mask)| {
            let between = x.clone() * mask.clone();
            match index {
                0 => inverse - between,
                _ => inverse.clone() - B::matmul(B::matmul(inverse.clone(), between), inverse),
            }
        })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::Distribution;
    use burn::tensor::activation::sigmoid;

    use super::*;

    fn random(shape: [usize; 4]) -> Tensor<Flex, 4> {
        Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &Default::default())
    }

    fn distance(a: Tensor<Flex, 4>, b: Tensor<Flex, 4>) -> f32 {
        (a - b).abs().max().into_scalar()
    }

    /// Many columns at once give what one after another gives, with and without the delta rule, keys that are all alike
    /// included.
    #[test]
    fn blocks_equal_steps() {
        let cases = [(2, false, true), (7, false, false), (64, true, true), (65, false, true), (150, true, true)];
        for ((seq, alike, delta), apart) in cases.into_iter().flat_map(|case| [(case, false), (case, true)]) {
            let [batch, heads, rows, columns] = [2, 3, 8, 5];
            let k = match alike {
                true => random([batch, heads, 1, rows]).repeat_dim(2, seq),
                false => random([batch, heads, seq, rows]),
            };
            let length = k.clone().square().sum_dim(3).sqrt();
            let all = Recurrence {
                q: random([batch, heads, seq, rows]),
                k: k / length,
                v: random([batch, heads, seq, columns]),
                decay: random([batch, heads, seq, if apart { rows } else { 1 }]).abs() * -0.1,
                beta: delta.then(|| sigmoid(random([batch, heads, seq, 1]) * 3.0)),
            };
            let state = random([batch, heads, rows, columns]);
            let (mut one_by_one, mut answers) = (state.clone(), Vec::new());
            for column in 0..seq {
                let of = |x: &Tensor<Flex, 4>| x.clone().narrow(2, column, 1);
                let Recurrence { q, k, v, decay, beta } = &all;
                let step = Recurrence { q: of(q), k: of(k), v: of(v), decay: of(decay), beta: beta.as_ref().map(of) };
                let (state, answer) = step.apply(one_by_one);
                one_by_one = state;
                answers.push(answer);
            }
            let (state, all) = all.apply(state);
            assert!(distance(state, one_by_one) < 1e-5, "{seq} {alike} {delta} {apart}");
            assert!(distance(all, Tensor::cat(answers, 2)) < 1e-5, "{seq} {alike} {delta} {apart}");
        }
    }
}
