use std::ops::Range;

use crate::config::Activation;

/// The routed experts of one layer: what each is, and where a checkpoint keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many a token chooses.
    pub chosen: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside one expert.
    pub intermediate_size: usize,
    /// What one computes.
    pub kind: ExpertKind,
    /// Where they lie.
    pub names: ExpertNames,
}

/// What an expert computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ExpertKind {
    /// `down(act(gate(x)) · up(x))`.
    Gated(Activation),
    /// The same of matrices stored `[in, out]`, gate and up in one.
    Transposed(Activation),
    /// gpt-oss's: the same with biases, gate and up in turn, and both cut off.
    Clamped {
        /// What the gate is multiplied by in its sigmoid.
        alpha: f32,
        /// What gate and up are cut off at.
        limit: f32,
    },
}

/// How a checkpoint spells experts, within a layer.
///
/// It has either three tensors for each expert, or two for all of them: the first dimension counts experts, and gate
/// and up lie one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertNames {
    /// Gate, up and down of one expert, `{}` its number.
    pub apart: [&'static str; 3],
    /// Gate and up, then down, of all experts.
    pub together: [&'static str; 2],
}

impl ExpertNames {
    /// As most checkpoints spell them.
    pub const USUAL: Self = Self {
        apart: ["mlp.experts.{}.gate_proj.weight", "mlp.experts.{}.up_proj.weight", "mlp.experts.{}.down_proj.weight"],
        together: ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    };

    /// As Mixtral's spell them.
    pub const MIXTRAL: Self = Self {
        apart: [
            "block_sparse_moe.experts.{}.w1.weight",
            "block_sparse_moe.experts.{}.w3.weight",
            "block_sparse_moe.experts.{}.w2.weight",
        ],
        ..Self::USUAL
    };
}

/// Where a checkpoint may keep a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the tensor within its layer.
    pub tensor: String,
    /// Which part of it; all if none.
    pub part: Option<Part>,
}

/// A run of a tensor's numbers: some rows of one of its first dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The shape of the whole tensor, `[experts, rows, ..]`.
    pub of: Vec<usize>,
    /// Which expert.
    pub index: usize,
    /// Which of its rows.
    pub rows: Range<usize>,
}

impl Experts {
    /// Where a checkpoint may keep a parameter of expert `index`, in the order in which to look.
    pub fn places(&self, index: usize, parameter: &str) -> Vec<Place> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        if !matches!(self.kind, ExpertKind::Gated(_)) {
            return vec![self.transposed_place(index, parameter)];
        }
        let (apart, together, rows, of) = match parameter.split('.').next() {
            Some("gate_proj") => (0, 0, 0..inner, [2 * inner, hidden]),
            Some("up_proj") => (1, 0, inner..2 * inner, [2 * inner, hidden]),
            _ => (2, 1, 0..hidden, [hidden, inner]),
        };
        let part = Part { of: vec![self.count, of[0], of[1]], index, rows };
        let own = Place { tensor: self.names.apart[apart].replace("{}", &index.to_string()), part: None };
        vec![own, Place { tensor: self.names.together[together].to_owned(), part: Some(part) }]
    }

    /// The same where matrices are stored `[in, out]` for all experts together.
    fn transposed_place(&self, index: usize, parameter: &str) -> Place {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let [gate_up, down] = self.names.together;
        let (name, of) = match parameter {
            "gate_up_proj" => (gate_up, vec![hidden, 2 * inner]),
            "gate_up_proj_bias" => (gate_up, vec![2 * inner]),
            "down_proj" => (down, vec![inner, hidden]),
            _ => (down, vec![hidden]),
        };
        let bias = if parameter.ends_with("_bias") { "_bias" } else { "" };
        let rows = 0..of[0];
        let of = std::iter::once(self.count).chain(of).collect();
        Place { tensor: format!("{name}{bias}"), part: Some(Part { of, index, rows }) }
    }
}
