//! What all kernels need to know of their tensors.

use std::ops::Range;

use burn::prelude::Shape;
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Bytes that a GPU loads at once.
const LOAD: usize = 16;

/// Units of a plane; a kernel that counts on it is not launched on devices with others.
pub const PLANE: u32 = 32;

/// Steps between neighbours of a `[batch, heads, columns, head_dim]` tensor whose heads lie in one piece, in vectors.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Strides {
    /// To the next sequence.
    pub batch: usize,
    /// To the next head.
    pub head: usize,
    /// To the next column.
    pub column: usize,
}

/// Numbers that a kernel loads at once: as many as all `lengths` are multiples of, as all tensors are aligned to, and
/// as the widest dtype allows.
pub fn width<R: CubeRuntime>(tensors: &[&CubeTensor<R>], lengths: &[usize]) -> usize {
    let widest = tensors.iter().map(|x| x.dtype.size()).max().unwrap_or(1);
    let fits = |width: usize| {
        let start = |x: &CubeTensor<R>| x.handle.offset_start.unwrap_or(0) as usize;
        lengths.iter().all(|length| length.is_multiple_of(width))
            && tensors.iter().all(|x| start(x).is_multiple_of(width * x.dtype.size()))
    };
    let mut width = LOAD / widest;
    while !fits(width) && width > 1 {
        width /= 2;
    }
    width
}

/// Whether kernels can read the tensors: floats, not too large for indices of 32 bits.
pub fn readable<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> bool {
    let float = |dtype| matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    let short = |x: &CubeTensor<R>| x.handle.size_in_used() / x.dtype.size() as u64 <= u32::MAX.into();
    tensors.iter().all(|x| float(x.dtype) && x.qparams.is_none() && short(x))
}

/// Whether planes are as wide as our kernels take them to be.
pub fn has_planes<R: CubeRuntime>(client: &ComputeClient<R>) -> bool {
    let hardware = &client.properties().hardware;
    hardware.plane_size_min == PLANE && hardware.plane_size_max == PLANE
}

/// How many cubes a device works on at once, at least: CUDA alone tells.
pub fn multiprocessors<R: CubeRuntime>(client: &ComputeClient<R>) -> usize {
    client.properties().hardware.num_streaming_multiprocessors.unwrap_or(64) as usize
}

/// The tensor in one piece; free where it is so already.
pub fn contiguous<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    if x.is_contiguous() { x } else { into_contiguous(x) }
}

/// A tensor in one piece beside `like` and of its dtype, not yet written.
pub fn empty<R: CubeRuntime>(like: &CubeTensor<R>, shape: Shape) -> CubeTensor<R> {
    let handle = like.client.empty(shape.num_elements() * like.dtype.size());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, like.dtype)
}

/// Some bytes of a tensor in one piece, as a tensor of this shape.
pub fn part<R: CubeRuntime>(x: &CubeTensor<R>, bytes: Range<usize>, shape: Shape) -> CubeTensor<R> {
    let after = x.handle.size_in_used() - bytes.end as u64;
    let handle = x.handle.clone().offset_start(bytes.start as u64).offset_end(after);
    CubeTensor::new_contiguous(x.client.clone(), x.device.clone(), shape, handle, x.dtype)
}

/// A tensor in one piece, not yet written; Burn's own may pad its rows.
pub fn unwritten<R: CubeRuntime>(device: &R::Device, shape: Shape, dtype: DType) -> CubeTensor<R> {
    let client = R::client(device);
    let handle = client.empty(shape.num_elements() * dtype.size());
    CubeTensor::new_contiguous(client, device.clone(), shape, handle, dtype)
}

/// The strides of `x [batch, heads, columns, head_dim]` in vectors of `width`, if its heads are made of such.
pub fn strides<R: CubeRuntime>(x: &CubeTensor<R>, width: usize) -> Option<StridesLaunch<R>> {
    let (shape, strides) = (x.meta.shape(), x.meta.strides());
    // A dimension of one is never stepped along, so its stride may be anything.
    let step = |dim: usize| if shape[dim] == 1 { 0 } else { strides[dim] };
    let steps = [step(0), step(1), step(2)];
    let aligned = x.handle.offset_start.unwrap_or(0).is_multiple_of((width * x.dtype.size()) as u64);
    let whole = aligned && strides[3] == 1 && steps.iter().all(|step| step.is_multiple_of(width));
    whole.then(|| StridesLaunch::new(steps[0] / width, steps[1] / width, steps[2] / width))
}

/// The whole buffer that a tensor lies in, from its first number on.
pub fn array<R: CubeRuntime>(x: &CubeTensor<R>) -> ArrayArg<R> {
    let len = x.handle.size_in_used() as usize / x.dtype.size();
    // SAFETY: the length is the handle's own.
    unsafe { ArrayArg::from_raw_parts(x.handle.clone(), len) }
}

/// The same, read as numbers of another dtype.
pub fn array_of<R: CubeRuntime>(x: &CubeTensor<R>, dtype: DType) -> ArrayArg<R> {
    let len = x.handle.size_in_used() as usize / dtype.size();
    // SAFETY: the length is the handle's own.
    unsafe { ArrayArg::from_raw_parts(x.handle.clone(), len) }
}
