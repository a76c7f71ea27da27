use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::launch;
use super::tensor::{PLANE, array, contiguous, empty, has_planes, readable, width};

/// Planes that share a row.
const PLANES: u32 = 8;

/// `x [.., size] / sqrt(mean(x²) + eps) · weight [size]`.
pub fn rms_norm<R: CubeRuntime>(x: &CubeTensor<R>, weight: &CubeTensor<R>, eps: f64) -> Option<CubeTensor<R>> {
    let size = weight.meta.shape()[0];
    let rows = x.meta.num_elements() / size.max(1);
    if rows == 0 || !readable(&[x, weight]) || !weight.is_contiguous() || !has_planes(&x.client) {
        return None;
    }
    let x = contiguous(x.clone());
    let y = empty(&x, x.meta.shape().clone());
    let width = width(&[&x, weight], &[size]);
    let types = [x.dtype, weight.dtype].map(DType::into);
    // SAFETY: a cube reads and writes its own row alone, of which there are as many as cubes.
    unsafe {
        launch!(
            norm::Norm beside &y,
            CubeCount::Static(rows as u32, 1, 1),
            CubeDim::new_2d(PLANE, PLANES);
            X = types[0], W = types[1]; N = width;
            x: Array<Vector<norm::X, norm::N>> = array(&x),
            weight: Array<Vector<norm::W, norm::N>> = array(weight),
            y: Array<Vector<norm::X, norm::N>> = array(&y),
            size: usize = size / width,
            numbers: f32 = size as f32,
            eps: f32 = eps as f32;
            planes = PLANES as usize, dtypes = types,
        );
    }
    Some(y)
}

/// One cube norms one row.
#[cube(launch_unchecked)]
fn norm<X: Float, W: Float, N: Size>(
    x: &Array<Vector<X, N>>,      // [rows, size]
    weight: &Array<Vector<W, N>>, // [size]
    y: &mut Array<Vector<X, N>>,  // [rows, size]
    size: usize,
    numbers: f32,
    eps: f32,
    #[comptime] planes: usize,
    #[define(X, W)] _dtypes: [StorageType; 2],
) {
    let row = CUBE_POS_X as usize * size;
    let units = planes * PLANE as usize;

    let mut squares = Vector::<f32, N>::new(0.0f32);
    let mut i = UNIT_POS as usize;
    while i < size {
        let value = Vector::<f32, N>::cast_from(x[row + i]);
        squares += value * value;
        i += units;
    }
    let mut sum = 0.0f32;
    #[unroll]
    for j in 0..N::value() {
        sum += squares[j];
    }
    let sum = plane_sum(sum);

    let mut sums = SharedMemory::<f32>::new(planes);
    if UNIT_POS_X == 0 {
        sums[UNIT_POS_Y as usize] = sum;
    }
    sync_cube();
    // Every plane adds up the shares of all.
    let mut share = 0.0f32;
    if UNIT_POS_X < planes as u32 {
        share = sums[UNIT_POS_X as usize];
    }
    let scale = Vector::<f32, N>::new(1.0f32 / f32::sqrt(plane_sum(share) / numbers + eps));

    let mut i = UNIT_POS as usize;
    while i < size {
        let value = Vector::<f32, N>::cast_from(x[row + i]) * scale;
        y[row + i] = Vector::cast_from(value * Vector::<f32, N>::cast_from(weight[i]));
        i += units;
    }
}
