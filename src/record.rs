//! The streaming record loader: swaps a unit's tensors into a Burn module.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::prelude::Tensor;
use burn::tensor::{AllocationProperty, Bytes, DType, TensorData};
use leveret_models::Backend;

use crate::error::{Error, Result};
use crate::unit::{Parameter, Unit};

/// The bytes of one unit, and which parameter lies where in them.
pub(crate) struct Record<'a> {
    pub(crate) unit: &'a Unit,
    pub(crate) weights: bytes::Bytes,
}

impl Record<'_> {
    /// The data of a parameter; where its bytes are aligned they are shared, not copied.
    fn data(&self, parameter: &str) -> Option<TensorData> {
        let tensor = self.unit.tensors.iter().find(|tensor| tensor.parameter == parameter)?;
        let bytes = self.weights.slice(tensor.offset..tensor.offset + tensor.len);
        let aligned = (bytes.as_ptr() as usize).is_multiple_of(tensor.dtype.size());
        let bytes = match aligned {
            true => Bytes::from_shared(bytes, AllocationProperty::Native),
            false => Bytes::from_bytes_vec(bytes.to_vec()),
        };
        Some(TensorData::from_bytes(bytes, tensor.shape.clone(), tensor.dtype))
    }
}

/// The dtype that `B` stores weights of `dtype` in: their own where it can, else f32.
pub(crate) fn stored_dtype<B: Backend>(dtype: DType, device: &B::Device) -> DType {
    match B::supports_dtype(device, dtype) {
        true => dtype,
        false => DType::F32,
    }
}

/// The parameters of a module: names, which are the checkpoint's, and shapes. No value is read.
pub(crate) fn parameters<B: Backend, M: Module<B>>(module: &M) -> Vec<Parameter> {
    let mut outline = Outliner::default();
    module.visit(&mut outline);
    outline.parameters
}

/// Fills the parameters of a module from a record, on the module's device.
pub(crate) fn load<B: Backend, M: Module<B>>(module: M, record: &Record) -> Result<M> {
    let mut loader = Loader { record, path: Vec::new(), missing: None };
    let module = module.map(&mut loader);
    match loader.missing {
        // Units are cut by the same names: only a defect can bring this about.
        Some(tensor) => {
            let hint = format!("it is not part of {}", record.unit.kind);
            Err(Error::MissingTensor { path: "the stream".into(), tensor, hint })
        }
        None => Ok(module),
    }
}

#[derive(Default)]
struct Outliner {
    path: Vec<String>,
    parameters: Vec<Parameter>,
}

impl<B: Backend> ModuleVisitor<B> for Outliner {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.parameters.push(Parameter { name: self.path.join("."), shape: param.lazy_shape().to_vec() });
    }
}

struct Loader<'a> {
    record: &'a Record<'a>,
    path: Vec<String>,
    missing: Option<String>,
}

impl<B: Backend> ModuleMapper<B> for Loader<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let name = self.path.join(".");
        let Some(data) = self.record.data(&name) else {
            self.missing.get_or_insert(name);
            return param;
        };
        let device = param.lazy_device();
        let dtype = stored_dtype::<B>(data.dtype, &device);
        Param::initialized(ParamId::new(), Tensor::from_data(data, (&device, dtype)))
    }
}
