use burn::prelude::Shape;
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

use super::ending::Ending;
use super::{planes, row, tiles};
use crate::config::Activation;
use crate::kernels::cube::norm::rms_norm;
use crate::kernels::cube::tensor::{contiguous, empty, has_planes, part, readable};
use crate::weight::Format;

/// Rows of input up to which weights are multiplied as they are read, whatever the dtypes.
const FEW_ROWS: usize = 64;

/// Rows of input up to which tensor cores read tiles of the weights again for other rows.
const SOME_ROWS: usize = 512;

/// Hidden states, and what they are normed with on the way.
pub struct Hidden<R: CubeRuntime> {
    /// `[batch, seq, in]`.
    pub x: CubeTensor<R>,
    /// A weight `[in]` and what the mean square is raised by.
    pub norm: Option<(CubeTensor<R>, f64)>,
}

/// The parameters of a linear layer.
pub struct Layer<R: CubeRuntime> {
    pub weight: Matrix<R>,
    pub bias: Option<CubeTensor<R>>,
    /// Rows of the matrix.
    pub outputs: usize,
}

/// A weight `[out, in]` as a device holds it.
#[allow(clippy::large_enum_variant, reason = "there is one for each call, and it stays where it was made")]
pub enum Matrix<R: CubeRuntime> {
    /// In a float dtype.
    Dense(CubeTensor<R>),
    /// Codes and scales.
    Packed(Format, CubeTensor<R>, CubeTensor<R>),
}

impl<R: CubeRuntime> Matrix<R> {
    /// The array with a number or code for each weight.
    pub fn codes(&self) -> &CubeTensor<R> {
        match self {
            Self::Dense(codes) | Self::Packed(_, codes, _) => codes,
        }
    }

    /// The scales, if it is packed.
    pub fn scales(&self) -> Option<&CubeTensor<R>> {
        match self {
            Self::Dense(_) => None,
            Self::Packed(_, _, scales) => Some(scales),
        }
    }

    /// How it is packed, if it is.
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::Dense(_) => None,
            Self::Packed(format, ..) => Some(*format),
        }
    }

    fn is_alike(&self, other: &Self) -> bool {
        self.format() == other.format() && self.codes().dtype == other.codes().dtype
    }
}

/// What becomes of the products of a row with the matrices.
#[allow(clippy::large_enum_variant, reason = "there is one for each call, and it stays where it was made")]
pub enum End<R: CubeRuntime> {
    /// Each is a result, one matrix after the other.
    Each,
    /// The activation of the first times the second.
    Gated(Activation),
    /// The sum of the first and this.
    Add(CubeTensor<R>),
}

/// `y [rows, out]`, or several such one after another, of `x [rows, in]` and matrices `[out, in]`, all in one piece.
pub struct Product<R: CubeRuntime> {
    pub x: CubeTensor<R>,
    pub norm: Option<(CubeTensor<R>, f64)>,
    /// One at least, stored alike.
    pub layers: Vec<Layer<R>>,
    pub end: End<R>,
    pub y: CubeTensor<R>,
    pub rows: usize,
    pub inputs: usize,
}

impl<R: CubeRuntime> Product<R> {
    /// Whether layers have a bias; all have, or none.
    pub fn has_bias(&self) -> bool {
        self.layers[0].bias.is_some()
    }

    /// Matrices that make results of their own.
    pub fn results(&self) -> usize {
        self.end.results(self.layers.len())
    }

    /// Blocks of `size` rows of the matrices; where several make one result, of the first alone.
    pub fn blocks(&self, size: usize) -> usize {
        self.layers[..self.results()].iter().map(|layer| layer.outputs.div_ceil(size)).sum()
    }

    /// What is added at the end, if anything is.
    pub fn residual(&self) -> Option<&CubeTensor<R>> {
        match &self.end {
            End::Add(residual) => Some(residual),
            _ => None,
        }
    }
}

impl<R: CubeRuntime> End<R> {
    /// Results of so many matrices.
    fn results(&self, layers: usize) -> usize {
        if matches!(self, Self::Each) { layers } else { 1 }
    }

    /// The kind of end.
    pub fn kind(&self) -> Ending {
        match self {
            Self::Each => Ending::Each,
            Self::Gated(activation) => Ending::Gated(*activation),
            Self::Add(_) => Ending::Add,
        }
    }
}

/// The products `[batch, seq, out]`, one unless each is a result; `None` where Burn's matrix product is the better one,
/// or no kernel suits.
///
/// Burn's rounds f32 to 19 bits, so f32 is always multiplied here.
pub fn linear<R: CubeRuntime>(hidden: Hidden<R>, layers: Vec<Layer<R>>, end: End<R>) -> Option<Vec<CubeTensor<R>>> {
    let [batch, seq, inputs] = hidden.x.meta.shape().dims();
    let rows = batch * seq;
    let first = layers.first()?;
    let alike = |layer: &Layer<R>| {
        layer.weight.is_alike(&first.weight)
            && layer.bias.as_ref().map(|x| x.dtype) == first.bias.as_ref().map(|x| x.dtype)
    };
    let floats =
        layers.iter().flat_map(|layer| &layer.bias).chain([&hidden.x]).chain(hidden.norm.iter().map(|(x, _)| x));
    let suits = floats.into_iter().all(|x| readable(&[x])) && has_planes(&hidden.x.client);
    let dense = layers.iter().all(|layer| !matches!(&layer.weight, Matrix::Dense(weight) if !readable(&[weight])));
    let outputs =
        layers.iter().all(|layer| layer.outputs > 0 && (!end.kind().is_gated() || layer.outputs == first.outputs));
    if rows == 0 || inputs == 0 || !outputs || !suits || !dense || !layers.iter().all(alike) {
        return None;
    }
    let end = match end {
        End::Add(residual) if residual.dtype == hidden.x.dtype => End::Add(contiguous(residual)),
        End::Add(_) => return None,
        end => end,
    };
    let x = contiguous(hidden.x);
    let widths: Vec<_> = layers[..end.results(layers.len())].iter().map(|layer| layer.outputs).collect();
    let y = empty(&x, Shape::from([batch, seq, widths.iter().sum()]));
    let mut product = Product { x, norm: hidden.norm, layers, end, y, rows, inputs };
    let (f32, packed) = (product.x.dtype == DType::F32, product.layers[0].weight.format().is_some());
    let tiled = rows > 1 && (rows <= SOME_ROWS || packed) && tiles::suits(&product);
    // Rows for tiles are normed once, not by every cube, save where `tiles::norms` says otherwise.
    if tiled
        && !tiles::norms(&product)
        && let Some((weight, eps)) = product.norm.take()
    {
        product.x = rms_norm(&product.x, &weight, eps)?;
    }
    if let Some(blueprint) = row::blueprint(&product) {
        row::launch(&product, blueprint);
    } else if tiled {
        tiles::launch(&product);
    } else if rows <= FEW_ROWS || f32 || packed {
        planes::launch(&product)?;
    } else {
        return None;
    }
    let size = product.y.dtype.size();
    let mut end = 0;
    let result = |width: usize| {
        end += rows * width * size;
        let shape = Shape::from([batch, seq, width]);
        part(&product.y, end - rows * width * size..end, shape)
    };
    Some(widths.into_iter().map(result).collect())
}
