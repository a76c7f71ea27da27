use std::ffi::c_void;
use std::sync::PoisonError;

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cuda::CudaRuntime;
use cubecl::server::Handle;
use cudarc::cublaslt::{result, sys};

use super::library::{Library, Shape, WORKSPACE};
use crate::kernels::cube::{self, Layer, Matrix};

type Tensor = CubeTensor<CudaRuntime>;

/// `x [.., in] · weightᵀ [out, in]` for each layer, plus its bias `[out]`, plus `residual` where there is one: all
/// operands in one piece, and floats of one dtype. The results are `[.., out]`.
///
/// A packed weight is unpacked panel by panel, so that device memory holds one of them at a time.
///
/// `None` where the system has no cuBLASLt, or it does not serve the dtype.
pub fn matmul(x: &Tensor, layers: &[Layer<CudaRuntime>], residual: Option<&Tensor>) -> Option<Vec<Tensor>> {
    let dtype = match x.dtype {
        DType::F32 => sys::cudaDataType::CUDA_R_32F,
        DType::F16 => sys::cudaDataType::CUDA_R_16F,
        DType::BF16 => sys::cudaDataType::CUDA_R_16BF,
        _ => return None,
    };
    let alike = |tensor: &Tensor| tensor.dtype == x.dtype && tensor.is_contiguous();
    let weights = layers.iter().filter(|layer| layer.weight.format().is_none()).map(|layer| layer.weight.codes());
    let biases = layers.iter().flat_map(|layer| &layer.bias);
    if !weights.chain(biases).chain(residual).chain([x]).all(alike) {
        return None;
    }
    let library = Library::of(x.device.index)?;
    let mut library = library.lock().unwrap_or_else(PoisonError::into_inner);

    let mut shape: Vec<usize> = x.meta.shape().iter().copied().collect();
    let inputs = shape.pop()?;
    let rows: usize = shape.iter().product();
    let result = |layer: &Layer<CudaRuntime>| {
        cube::empty(x, shape.iter().copied().chain([layer.outputs]).collect::<Vec<_>>().into())
    };
    let results: Vec<_> = layers.iter().map(result).collect();
    let workspace = x.client.empty(WORKSPACE);
    let mut run = |products: &[Product<'_>]| {
        let job = Job { dtype, rows, inputs, x, products, residual, workspace: &workspace };
        let library: &mut Library = &mut library;
        // On cubecl's own thread: to ask it anything from here takes as long as a small product.
        x.client.exclusive(move || job.run(library)).ok()?
    };

    let (mut dense, mut packed) = (Vec::new(), Vec::new());
    for (layer, y) in layers.iter().zip(&results) {
        match &layer.weight {
            Matrix::Dense(weight) => {
                dense.push(Product { weight: weight.clone(), bias: layer.bias.as_ref(), y, first: 0 });
            }
            Matrix::Packed(..) => packed.push((layer, y)),
        }
    }
    if !dense.is_empty() {
        run(&dense)?;
    }
    for (layer, y) in packed {
        for panel in cube::panels(layer.outputs, inputs, x.dtype.size()) {
            let weight = cube::unpacked(&layer.weight, panel.clone(), inputs, x)?;
            run(&[Product { weight, bias: layer.bias.as_ref(), y, first: panel.start }])?;
        }
    }
    Some(results)
}

/// Some columns of a result.
struct Product<'a> {
    /// `[columns, in]`.
    weight: Tensor,
    /// Of all columns.
    bias: Option<&'a Tensor>,
    /// `[.., out]`.
    y: &'a Tensor,
    first: usize,
}

/// Products of the same input.
struct Job<'a> {
    dtype: sys::cudaDataType,
    rows: usize,
    inputs: usize,
    x: &'a Tensor,
    products: &'a [Product<'a>],
    residual: Option<&'a Tensor>,
    workspace: &'a Handle,
}

impl Job<'_> {
    /// Computes when it is its turn.
    fn run(&self, library: &mut Library) -> Option<()> {
        let (x, room) = (address(self.x)?, pointer(self.x, self.workspace)?);
        let operands = self.products.iter().map(|product| {
            let skipped = (product.first * self.x.dtype.size()) as u64;
            let after = |tensor: Option<&Tensor>| match tensor {
                Some(tensor) => address(tensor).map(|address| Some(address + skipped)),
                None => Some(None),
            };
            Some(Operands {
                weight: address(&product.weight)?,
                x,
                bias: after(product.bias)?.unwrap_or(0),
                added: after(self.residual)?,
                y: address(product.y)? + skipped,
                room,
            })
        });
        let operands: Vec<_> = operands.collect::<Option<_>>()?;

        // Behind what computes the operands, and behind whatever was computed in the result's memory before.
        library.turns.begin(&self.x.client)?;
        let begun = self.products.iter().zip(&operands).try_for_each(|(product, operands)| {
            let y = product.y.meta.shape();
            let [m, n, k, width] =
                [product.weight.meta.shape()[0], self.rows, self.inputs, y[y.num_dims() - 1]].map(|size| size as u64);
            library.multiply(Shape { dtype: self.dtype, m, n, k, width, bias: product.bias.is_some() }, operands)
        });
        // Also after a failure: what goes back to cubecl may still be in use.
        library.turns.end()?;
        begun
    }
}

/// Where the operands of a product lie in device memory.
struct Operands {
    /// `[m, k]`.
    weight: u64,
    /// `[n, k]`.
    x: u64,
    /// `[m]`, or nought.
    bias: u64,
    /// `[n, m]`, rows `width` apart.
    added: Option<u64>,
    /// As `added`.
    y: u64,
    /// [`WORKSPACE`] bytes.
    room: u64,
}

impl Library {
    /// Begins a product.
    fn multiply(&mut self, shape: Shape, operands: &Operands) -> Option<()> {
        let Shape { dtype, m, n, k, width, .. } = shape;
        let layouts = [
            Layout::new(dtype, k, m, k as i64)?,
            Layout::new(dtype, k, n, k as i64)?,
            Layout::new(dtype, m, n, width as i64)?,
        ];
        let [a, b, d] = layouts.each_ref().map(|layout| layout.0);
        let description = Description::new(operands.bias)?;
        let algorithm = match self.algorithms.get(&shape) {
            Some(algorithm) => *algorithm,
            None => {
                let best = description.best(self.handle, [a, b, d])?;
                self.algorithms.insert(shape, best);
                best
            }
        };
        let (one, times) = (1f32, if operands.added.is_some() { 1f32 } else { 0f32 });
        let pointer = |address: u64| address as *const c_void;
        // SAFETY: the operands are device memory of the sizes that the layouts say, and what cubecl does with it next waits
        // for the turn's end.
        let begun = unsafe {
            result::matmul(
                self.handle,
                description.0,
                (&raw const one).cast(),
                (&raw const times).cast(),
                pointer(operands.weight),
                a,
                pointer(operands.x),
                b,
                pointer(operands.added.unwrap_or(operands.y)),
                d,
                operands.y as *mut c_void,
                d,
                &raw const algorithm,
                operands.room as *mut c_void,
                WORKSPACE,
                self.turns.stream().cast(),
            )
        };
        begun.ok()
    }
}

/// The size of a matrix.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(dtype: sys::cudaDataType, rows: u64, columns: u64, step: i64) -> Option<Self> {
        result::create_matrix_layout(dtype, rows, columns, step).ok().map(Self)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: it is freed once; the library has taken what it needs of it.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// What is to be computed: the first operand transposed, sums in f32, a bias where there is one.
struct Description(sys::cublasLtMatmulDesc_t);

impl Description {
    fn new(bias: u64) -> Option<Self> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let sums = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let this = Self(result::create_matmul_desc(sums, sys::cudaDataType::CUDA_R_32F).ok()?);
        this.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &1i32)?;
        if bias != 0 {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32;
            this.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
            this.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        Some(this)
    }

    fn set<T>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Option<()> {
        let (value, len) = (std::ptr::from_ref(value).cast(), size_of::<T>());
        // SAFETY: the description lives, and the value has the size that its attribute has.
        unsafe { result::set_matmul_desc_attribute(self.0, attribute, value, len) }.ok()
    }

    /// What the library thinks fastest, within the workspace.
    fn best(
        &self,
        handle: sys::cublasLtHandle_t,
        [a, b, d]: [sys::cublasLtMatrixLayout_t; 3],
    ) -> Option<sys::cublasLtMatmulAlgo_t> {
        let preference = result::create_matmul_pref().ok()?;
        let attribute = sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        let room = WORKSPACE;
        // SAFETY: all handles live; the preference is freed once.
        unsafe {
            let set =
                result::set_matmul_pref_attribute(preference, attribute, (&raw const room).cast(), size_of_val(&room));
            let best = set.and_then(|()| result::get_matmul_algo_heuristic(handle, self.0, a, b, d, d, preference));
            let _ = result::destroy_matmul_pref(preference);
            best.ok().map(|best| best.algo)
        }
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: it is freed once; the library has taken what it needs of it.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// Where a tensor lies in device memory.
fn address(tensor: &Tensor) -> Option<u64> {
    pointer(tensor, &tensor.handle)
}

fn pointer(tensor: &Tensor, handle: &Handle) -> Option<u64> {
    tensor.client.get_resource(handle.clone()).ok().map(|resource| resource.resource().ptr)
}
