use super::columns::Columns;
use super::entry::{Entry, Pair};
use super::exact::Exact;
use super::few_rows::{FEW_ROWS, FewRows};
use super::input::Input;
use super::level::Level;
use super::many_rows::ManyRows;
use super::matrix::Matrix;
use super::pairs::{self, FewRowsInPairs};
use super::team;

/// Rows of `x` that are multiplied by a panel of decoded weights.
const ROWS: usize = 512;

/// Outputs of such a panel, at most.
const PANEL: usize = 128;

/// Outputs that a thread takes at a time when there are few rows.
const OUTPUTS: usize = 64;

/// Multiplies `x`, `[rows, inputs]`, by matrices of the same number of inputs, as one piece of work for all threads:
/// `[rows, outputs]` each.
///
/// Where `x` is exact in bf16 and the CPU multiplies that, many rows are multiplied by weights that are rounded to it,
/// unless these are f32 or f16.
pub(crate) fn multiply_each(x: &[f32], exact: Exact, matrices: &[Matrix]) -> Vec<Vec<f32>> {
    multiply_at(Level::best(), x, exact, matrices)
}

/// Does what [`multiply_each`] does with the instructions of `level`.
///
/// # Panics
/// If the matrices do not share one number of inputs, or `x` is no rows of it.
pub(crate) fn multiply_at(level: Level, x: &[f32], exact: Exact, matrices: &[Matrix]) -> Vec<Vec<f32>> {
    let Some(inputs) = matrices.first().map(Matrix::inputs) else { return Vec::new() };
    assert!(matrices.iter().all(|matrix| matrix.inputs() == inputs), "matrices of different inputs");
    assert!(inputs > 0 && x.len().is_multiple_of(inputs), "{} numbers are no rows of {inputs}", x.len());
    let rows = x.len() / inputs;
    let mut products: Vec<_> = matrices.iter().map(|matrix| vec![0.0; rows * matrix.outputs()]).collect();
    // In groups, few rows are multiplied as integers of 16 bits: nothing for numbers that need all bits of an f32.
    let rounded = |matrix: &Matrix| exact == Exact::F32 && matrix.has_groups();
    if matrices.iter().any(rounded) && !matrices.iter().all(rounded) {
        return matrices.iter().flat_map(|matrix| multiply_at(level, x, exact, std::slice::from_ref(matrix))).collect();
    }
    if rows <= FEW_ROWS && !rounded(&matrices[0]) {
        let x: Vec<_> = x.chunks(inputs).map(|x| Input::new(level, x, exact, matrices)).collect();
        let work = Work::cut(matrices, &mut products, 0..rows, OUTPUTS);
        team::each(work, |Work { matrix, first, y }| {
            let of = FewRows { matrix, first, x: &x, y };
            match pairs::are_for(level, exact, &matrix) {
                true => level.run_with_pairs(FewRowsInPairs(of)),
                false => level.run(of),
            }
        });
    } else {
        let outputs: usize = matrices.iter().map(Matrix::outputs).sum();
        let in_pairs = |matrix: &Matrix| exact == Exact::Bf16 && level.multiplies_pairs() && matrix.suits_bf16();
        let tile = if matrices.iter().any(in_pairs) { level.outputs::<Pair>() } else { level.outputs::<f32>() };
        // Whole tiles, one at least, and if there are enough of them some panels for each thread.
        let panel = (outputs.div_ceil(4 * rayon::current_num_threads()).min(PANEL) / tile).max(1) * tile;
        for (i, x) in x.chunks(ROWS * inputs).enumerate() {
            let of = i * ROWS..(i * ROWS + x.len() / inputs);
            let pairs = matrices.iter().any(in_pairs).then(|| Columns::<Pair>::new(x, inputs, level.lanes()));
            let numbers = (!matrices.iter().all(in_pairs)).then(|| Columns::<f32>::new(x, inputs, level.lanes()));
            let work = Work::cut(matrices, &mut products, of, panel);
            team::each(work, |work| match (&pairs, &numbers) {
                (Some(x), _) if in_pairs(&work.matrix) => work.many_rows(level, x),
                (_, Some(x)) => work.many_rows(level, x),
                _ => unreachable!("`x` is turned for every matrix"),
            });
        }
    }
    products
}

/// A run of a matrix's outputs.
struct Work<'a, 'y> {
    matrix: Matrix<'a>,
    first: usize,
    /// `[rows, run]`
    y: Vec<&'y mut [f32]>,
}

impl<'a, 'y> Work<'a, 'y> {
    /// Cuts the products of `rows` in pieces of `run` outputs.
    fn cut(
        matrices: &[Matrix<'a>],
        products: &'y mut [Vec<f32>],
        rows: std::ops::Range<usize>,
        run: usize,
    ) -> Vec<Self> {
        let mut work = Vec::new();
        for (matrix, product) in matrices.iter().zip(products) {
            let outputs = matrix.outputs();
            let product = &mut product[rows.start * outputs..rows.end * outputs];
            let mut rows: Vec<_> = product.chunks_mut(outputs.max(1)).map(|row| row.chunks_mut(run)).collect();
            for first in (0..outputs).step_by(run) {
                let y = rows.iter_mut().map(|row| row.next().expect("as many runs in every row")).collect();
                work.push(Self { matrix: *matrix, first, y });
            }
        }
        work
    }

    fn many_rows<E: Entry>(self, level: Level, x: &Columns<E>) {
        level.run(ManyRows { matrix: self.matrix, first: self.first, x, y: self.y });
    }
}
