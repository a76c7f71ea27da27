//! The streaming record loader: swaps a unit's tensors into a Burn module.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::prelude::Tensor;
use burn::tensor::{DType, TensorPrimitive};
use leveret_models::Backend;

use crate::error::{Error, Result};
use crate::stream::Arrived;
use crate::unit::{Parameter, Unit};
use crate::upload::Upload;

/// A unit that has arrived, and which parameter lies where in it.
pub(crate) struct Record<'a, B: Backend> {
    pub(crate) unit: &'a Unit,
    pub(crate) arrived: &'a Arrived,
    pub(crate) upload: &'a dyn Upload<B>,
}

impl<B: Backend> Record<'_, B> {
    /// The tensor of a parameter, if the unit has it.
    fn tensor<const D: usize>(&self, parameter: &str) -> Option<Tensor<B, D>> {
        let tensor = self.unit.tensors.iter().find(|tensor| tensor.parameter == parameter)?;
        let primitive = self.upload.tensor(tensor, self.arrived);
        Some(Tensor::from_primitive(TensorPrimitive::Float(primitive)))
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
pub(crate) fn load<B: Backend, M: Module<B>>(module: M, record: &Record<B>) -> Result<M> {
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

struct Loader<'a, B: Backend> {
    record: &'a Record<'a, B>,
    path: Vec<String>,
    missing: Option<String>,
}

impl<B: Backend> ModuleMapper<B> for Loader<'_, B> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let name = self.path.join(".");
        match self.record.tensor(&name) {
            Some(tensor) => Param::initialized(ParamId::new(), tensor),
            None => {
                self.missing.get_or_insert(name);
                param
            }
        }
    }
}
