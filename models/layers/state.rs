use burn::prelude::Tensor;
use burn::tensor::DType;

use crate::Backend;

/// The sizes of what a layer keeps of each sequence in the place of keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateShape {
    /// The columns that a convolution sees before the first of a pass, and its channels.
    pub conv: [usize; 2],
    /// The heads that sum up all columns so far, and the rows and columns of each one's sum, in f32.
    pub recurrent: [usize; 3],
    /// Numbers that the layer computes with for each column, in f32.
    pub scratch: usize,
    /// Numbers that it computes with however many columns there are, in f32.
    pub once: usize,
}

/// What a layer has made of all columns so far, the same size however many they were.
///
/// It is zero before the first. Padding stands at the left of the first pass only; what is computed of zeros leaves it
/// as it is.
#[derive(Debug, Clone)]
pub struct State<B: Backend> {
    shape: StateShape,
    /// `[batch, columns, channels]`.
    conv: Option<Tensor<B, 3>>,
    /// `[batch, heads, rows, columns]` in f32.
    recurrent: Option<Tensor<B, 4>>,
    /// Columns that went into each of the two.
    totals: [usize; 2],
}

impl<B: Backend> State<B> {
    /// The state before the first column.
    pub fn new(shape: StateShape) -> Self {
        Self { shape, conv: None, recurrent: None, totals: [0; 2] }
    }

    /// Columns of all passes so far.
    pub fn total(&self) -> usize {
        let [conv, recurrent] = self.totals;
        match (self.shape.conv.contains(&0), self.shape.recurrent.contains(&0)) {
            (_, true) => conv,
            (true, false) => recurrent,
            (false, false) => conv.min(recurrent),
        }
    }

    /// Puts what a convolution sees before them in front of the columns of a pass: `x [batch, seq, channels]` →
    /// `[batch, columns + seq, channels]`.
    pub fn preceded(&mut self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let ([columns, channels], [batch, seq, _]) = (self.shape.conv, x.dims());
        self.totals[0] += seq;
        if columns == 0 {
            return x;
        }
        let zeros = || Tensor::zeros([batch, columns, channels], (&x.device(), x.dtype()));
        let x = Tensor::cat(vec![self.conv.take().unwrap_or_else(zeros), x.clone()], 1);
        // Into memory of its own, or it would hold that of the whole pass.
        let own = B::unwritten([batch, 1, columns, channels], &x.device(), x.dtype());
        let last = x.clone().narrow(1, seq, columns).reshape([batch, 1, columns, channels]);
        self.conv = Some(B::append(own, last, 0).reshape([batch, columns, channels]));
        x
    }

    /// Lets `update` make the sums `[batch, heads, rows, columns]` after `seq` columns more of those before them, and a
    /// result beside them.
    pub fn recur<T>(
        &mut self,
        [batch, seq]: [usize; 2],
        device: &B::Device,
        update: impl FnOnce(Tensor<B, 4>) -> (Tensor<B, 4>, T),
    ) -> T {
        let [heads, rows, columns] = self.shape.recurrent;
        let zeros = || Tensor::zeros([batch, heads, rows, columns], (device, DType::F32));
        let (sums, result) = update(self.recurrent.take().unwrap_or_else(zeros));
        self.recurrent = Some(sums);
        self.totals[1] += seq;
        result
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::layers::{PAD, Positions};

    const SHAPE: StateShape = StateShape { conv: [3, 2], recurrent: [1, 1, 2], scratch: 0, once: 0 };

    fn floats<const D: usize>(x: Tensor<Flex, D>) -> Vec<f32> {
        x.into_data().into_vec().unwrap()
    }

    /// What a convolution sees of columns `0..seq` and what the sums of them are, in passes of these lengths.
    fn run(x: &Tensor<Flex, 3>, passes: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let (mut state, mut seen, mut sums, mut from) = (State::<Flex>::new(SHAPE), Vec::new(), Vec::new(), 0);
        for &seq in passes {
            let x = x.clone().narrow(1, from, seq);
            let around = state.preceded(x.clone());
            assert_eq!(around.dims(), [1, 3 + seq, 2]);
            // The sum over four columns, as a convolution of ones has it.
            let all = (0..4).map(|tap| around.clone().narrow(1, tap, seq)).reduce(|a, b| a + b).unwrap();
            seen.extend(floats(all));
            sums = state.recur([1, seq], &x.device(), |sums| {
                let sums = sums + x.sum_dim(1).reshape([1, 1, 1, 2]);
                (sums.clone(), floats(sums))
            });
            from += seq;
            assert_eq!(state.total(), from);
        }
        (seen, sums)
    }

    #[test]
    fn any_passes_give_the_same_state() {
        let values: Vec<f32> = (0..40).map(|i| (i * 7 % 11) as f32).collect();
        let x = Tensor::<Flex, 1>::from_floats(values.as_slice(), &Default::default()).reshape([1, 20, 2]);
        let whole = run(&x, &[20]);
        for passes in [vec![1; 20], vec![2, 1, 10, 7], vec![19, 1]] {
            assert_eq!(run(&x, &passes), whole, "{passes:?}");
        }
    }

    #[test]
    fn padding_leaves_the_state_as_it_is() {
        let positions = Positions::new(1, vec![PAD, PAD, 0, 1]);
        let x = Tensor::<Flex, 3>::ones([1, 4, 2], &Default::default());
        let (seen, sums) = run(&positions.without_padding(x.clone()), &[3, 1]);
        let (alone, sums_alone) = run(&x.narrow(1, 0, 2), &[2]);
        assert_eq!((&seen[4..], sums), (alone.as_slice(), sums_alone));
    }

    /// A layer that forgets one of the two is found out.
    #[test]
    fn both_count_their_columns() {
        let mut state = State::<Flex>::new(SHAPE);
        state.preceded(Tensor::ones([1, 4, 2], &Default::default()));
        assert_eq!(state.total(), 0);
    }
}
