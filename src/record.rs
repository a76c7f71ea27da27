//! The streaming record loader: swaps a unit's tensors into a Burn module.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::prelude::{Int, Tensor};
use burn::tensor::{DType, ElementConversion, IntDType, TensorPrimitive};
use leveret_models::Backend;

use crate::error::{Error, Result};
use crate::stream::Arrived;
use crate::unit::{Parameter, Unit, UnitTensor};
use crate::upload::Upload;

/// A unit that has arrived, and which parameter lies where in it.
pub(crate) struct Record<'a, B: Backend> {
    pub(crate) unit: &'a Unit,
    pub(crate) arrived: &'a Arrived,
    pub(crate) upload: &'a dyn Upload<B>,
}

impl<B: Backend> Record<'_, B> {
    fn find(&self, parameter: &str) -> Option<&UnitTensor> {
        self.unit.tensors.iter().find(|tensor| tensor.parameter == parameter)
    }

    /// The tensor of a parameter, if the unit has it.
    fn floats<const D: usize>(&self, parameter: &str) -> Option<Tensor<B, D>> {
        let primitive = self.upload.floats(self.find(parameter)?, self.arrived);
        Some(Tensor::from_primitive(TensorPrimitive::Float(primitive)))
    }

    /// The codes or scales of a packed parameter, if the unit has them.
    fn ints<const D: usize>(&self, parameter: &str) -> Option<Tensor<B, D, Int>> {
        let tensor = self.find(parameter)?;
        let ints = |tensor| Tensor::<B, D, Int>::from_primitive(self.upload.ints(tensor, self.arrived));
        Some(match tensor.dtype {
            // Scales that kernels want in f32, of which bf16 is the upper half.
            DType::BF16 => {
                let halves = UnitTensor { dtype: DType::U16, ..tensor.clone() };
                ints(&halves).cast(IntDType::U32).bitwise_left_shift_scalar(16.elem())
            }
            _ => ints(tensor),
        })
    }
}

/// The dtype that `B` stores weights of `dtype` in: their own where it can, else f32; codes and scales as they are.
pub(crate) fn stored_dtype<B: Backend>(dtype: DType, device: &B::Device) -> DType {
    match !dtype.is_float() || B::supports_dtype(device, dtype) {
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
    /// The kinds of the modules that it is in.
    containers: Vec<String>,
    parameters: Vec<Parameter>,
}

/// What modules call a linear layer.
const LINEAR: &str = "Struct:Linear";

/// What they call a weight that is not stored as it is used.
const WEIGHT: &str = "Enum:Weight";

/// Which name of a module is part of its parameters' names: a variant's is not.
fn named(name: &str, container: &str) -> String {
    if container.starts_with("Enum:") { String::new() } else { name.to_owned() }
}

/// The names that lead to a parameter.
fn joined(path: &[String]) -> String {
    let names: Vec<_> = path.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    names.join(".")
}

impl<B: Backend> ModuleVisitor<B> for Outliner {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push(named(name, container));
        self.containers.push(container.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
        self.containers.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let container = self.containers.last().map_or("", String::as_str);
        let parameter = Parameter::new(joined(&self.path), param.lazy_shape().to_vec());
        let packable = container == LINEAR && D == 2;
        self.parameters.push(Parameter { packable, rewritten: container == WEIGHT, ..parameter });
    }
}

struct Loader<'a, B: Backend> {
    record: &'a Record<'a, B>,
    path: Vec<String>,
    missing: Option<String>,
}

impl<B: Backend> ModuleMapper<B> for Loader<'_, B> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push(named(name, container));
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let name = joined(&self.path);
        match self.record.floats(&name) {
            Some(tensor) => Param::initialized(ParamId::new(), tensor),
            None => {
                self.missing.get_or_insert(name);
                param
            }
        }
    }

    /// Only packed matrices have integers, and only where the unit has them packed.
    fn map_int<const D: usize>(&mut self, param: Param<Tensor<B, D, Int>>) -> Param<Tensor<B, D, Int>> {
        match self.record.ints(&joined(&self.path)) {
            Some(tensor) => Param::initialized(ParamId::new(), tensor),
            None => param,
        }
    }
}
