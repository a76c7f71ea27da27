use serde::Deserialize;

/// The activation function of an MLP (`hidden_act`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x · sigmoid(x)`.
    #[default]
    #[serde(alias = "swish")]
    Silu,
    /// The exact Gaussian error linear unit.
    Gelu,
    /// Its approximation with tanh.
    #[serde(alias = "gelu_new", alias = "gelu_fast")]
    GeluPytorchTanh,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    #[serde(rename = "relu2")]
    Relu2,
}
