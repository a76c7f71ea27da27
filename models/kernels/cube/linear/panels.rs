use std::ops::Range;

use burn::prelude::Shape;
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::packed::{WORDS, code, scale_of, step, words_of};
use super::product::Matrix;
use super::weights::{ONE, codes_dtype, scales_dtype};
use crate::kernels::cube::launch::launch;
use crate::kernels::cube::tensor::{array, array_of, empty};
use crate::weight::{Format, GROUP};

/// Bytes of a panel.
pub const PANEL: usize = 32 << 20;

/// Units of a cube.
const UNITS: u32 = 256;

/// Numbers that a unit writes at once.
const WIDTH: usize = 8;

/// The rows of a packed matrix `[outputs, inputs]` that are unpacked at once for many rows of input: as many as fill
/// [`PANEL`] bytes in a dtype of this size.
pub fn panels(outputs: usize, inputs: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    // Whole blocks of every format, and addresses as a matrix product likes them.
    let rows = (PANEL / (inputs * size).max(1) / 128 * 128).max(128);
    (0..outputs).step_by(rows).map(move |start| start..(start + rows).min(outputs))
}

/// Some rows of a packed matrix with `inputs` columns, beside `like` and of its dtype; `None` for a dense one.
pub fn unpacked<R: CubeRuntime>(
    matrix: &Matrix<R>,
    rows: Range<usize>,
    inputs: usize,
    like: &CubeTensor<R>,
) -> Option<CubeTensor<R>> {
    let Matrix::Packed(format, codes, scales) = matrix else { return None };
    let panel = empty(like, Shape::from([rows.len(), inputs]));
    let groups = inputs / GROUP;
    let types = [codes_dtype(matrix), scales_dtype(matrix), like.dtype].map(DType::into);
    // SAFETY: units beyond the last group do nothing, and the rows are the matrix's own.
    unsafe {
        launch!(
            unpack::Unpack beside like,
            CubeCount::Static(((rows.len() * groups) as u32).div_ceil(UNITS), 1, 1),
            CubeDim::new_1d(UNITS);
            W = types[0], S = types[1], X = types[2]; M = WORDS, N = WIDTH;
            codes: Array<Vector<unpack::W, unpack::M>> = array_of(codes, codes_dtype(matrix)),
            scales: Array<unpack::S> = array(scales),
            panel: Array<Vector<unpack::X, unpack::N>> = array(&panel),
            first: usize = rows.start,
            rows: usize = rows.len(),
            groups: usize = groups,
            one: u32 = ONE;
            format = *format, dtypes = types,
        );
    }
    Some(panel)
}

/// One unit unpacks one group.
#[cube(launch_unchecked)]
fn unpack<W: Numeric, S: Numeric, X: Float, M: Size, N: Size>(
    codes: &Array<Vector<W, M>>,
    scales: &Array<S>,
    panel: &mut Array<Vector<X, N>>, // [rows, inputs]
    first: usize,
    rows: usize,
    groups: usize,
    one: u32,
    #[comptime] format: Format,
    #[define(W, S, X)] _dtypes: [StorageType; 3],
) {
    if ABSOLUTE_POS < rows * groups {
        let (row, group) = (first + ABSOLUTE_POS / groups, ABSOLUTE_POS % groups);
        let step = step::<S>(scale_of::<S>(scales, row, group, groups, format), format);
        let vectors = comptime!(words_of(format) / WORDS);
        let mut words = Array::<u32>::new(comptime!(words_of(format)));
        #[unroll]
        for v in 0..vectors {
            let vector = codes[(row * groups + group) * vectors + v];
            #[unroll]
            for w in 0..WORDS {
                words[v * WORDS + w] = u32::cast_from(vector[w]);
            }
        }
        #[unroll]
        for v in 0..comptime!(GROUP / WIDTH) {
            let mut numbers = Vector::<X, N>::empty();
            #[unroll]
            for n in 0..WIDTH {
                let i = comptime!(v * WIDTH + n);
                // Of 4 bits both halves of a group share their words.
                let word = comptime!(if format == Format::Int4 { i % (GROUP / 2) / 4 } else { i / 4 });
                numbers[n] = X::cast_from((code(words[word], i, one, format) - step.zero) * step.scale);
            }
            panel[ABSOLUTE_POS * comptime!(GROUP / WIDTH) + v] = numbers;
        }
    }
}
