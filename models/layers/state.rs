use burn::prelude::{Int, Tensor};
use burn::tensor::{DType, TensorData};

use crate::{Backend, portable};

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
        let last = portable::split(x.clone().narrow(1, seq, columns), [batch, 1, columns, channels]);
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

    /// Some sequences of several states in one; the longest has seen `total` columns.
    pub fn joined(parts: &[(&Self, &[usize])], total: usize) -> Self {
        let shape = parts.first().map_or_else(StateShape::default, |(part, _)| part.shape);
        let conv = parts.iter().map(|(part, rows)| Some(selected(part.conv.clone()?, rows))).collect::<Option<_>>();
        let recurrent =
            parts.iter().map(|(part, rows)| Some(selected(part.recurrent.clone()?, rows))).collect::<Option<_>>();
        let cat3 = |parts: Vec<Tensor<B, 3>>| Tensor::cat(parts, 0);
        let cat4 = |parts: Vec<Tensor<B, 4>>| Tensor::cat(parts, 0);
        Self { shape, conv: conv.map(cat3), recurrent: recurrent.map(cat4), totals: [total; 2] }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.shape);
    }

    /// What there is of `[batch, 1, columns, channels]` and `[batch, heads, rows, columns]`.
    pub fn arrays(&self) -> Vec<Tensor<B, 4>> {
        let conv = self.conv.clone().map(|conv| conv.unsqueeze_dim(1));
        conv.into_iter().chain(self.recurrent.clone()).collect()
    }

    /// Whether an array of these sizes can be one of those of a sequence.
    pub fn fits(&self, shape: &[usize]) -> bool {
        let ([columns, channels], [heads, rows, width]) = (self.shape.conv, self.shape.recurrent);
        shape == [1, 1, columns, channels] || shape == [1, heads, rows, width]
    }

    /// An empty state with such arrays put into it, what `total` columns left.
    pub fn with_arrays(mut self, arrays: Vec<Tensor<B, 4>>, total: usize) -> Self {
        let mut arrays = arrays.into_iter();
        if !self.shape.conv.contains(&0) {
            self.conv = arrays.next().map(|conv| conv.squeeze_dim(1));
        }
        self.recurrent = arrays.next();
        self.totals = [total; 2];
        self
    }
}

/// Some rows of a batch.
fn selected<B: Backend, const D: usize>(x: Tensor<B, D>, rows: &[usize]) -> Tensor<B, D> {
    if rows.iter().copied().eq(0..x.dims()[0]) {
        return x;
    }
    let indices: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
    let device = x.device();
    x.select(0, Tensor::<B, 1, Int>::from_data(TensorData::new(indices, [rows.len()]), &device))
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

    /// Sequences that join keep their states, whatever stands beside them.
    #[test]
    fn states_are_joined_and_put_back() {
        let state = |value: f32, seq: usize| {
            let mut state = State::<Flex>::new(SHAPE);
            let x = Tensor::<Flex, 3>::full([1, seq, 2], value, &Default::default());
            state.preceded(x.clone());
            state.recur([1, seq], &x.device(), |sums| (sums + x.sum_dim(1).reshape([1, 1, 1, 2]), ()));
            state
        };
        let (a, b) = (state(1.0, 5), state(2.0, 3));
        let both = State::joined(&[(&a, &[0]), (&b, &[0])], 5);
        assert_eq!((both.total(), floats(both.recurrent.clone().unwrap())), (5, vec![5.0, 5.0, 6.0, 6.0]));
        let mut left = State::joined(&[(&both, &[1])], 3);
        assert_eq!(floats(left.conv.clone().unwrap()), [2.0; 6]);
        let back = State::new(SHAPE).with_arrays(left.arrays(), 3);
        assert!(back.arrays().iter().all(|array| back.fits(&array.dims())) && back.total() == 3);
        left.clear();
        assert!(left.total() == 0 && left.arrays().is_empty());
    }

    /// A layer that forgets one of the two is found out.
    #[test]
    fn both_count_their_columns() {
        let mut state = State::<Flex>::new(SHAPE);
        state.preceded(Tensor::ones([1, 4, 2], &Default::default()));
        assert_eq!(state.total(), 0);
    }
}
