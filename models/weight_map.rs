use std::ops::Range;

use crate::DecoderConfig;
use crate::layers::SelfAttentionConfig;

/// Which tensors of a checkpoint the parameters of a layer are, where their names differ.
///
/// A module is named by the fields that lead to it (`self_attn.q_proj`); its parameters keep what follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WeightMap {
    entries: Vec<(&'static str, Entry)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: &'static str,
    slice: Option<Slice>,
    outside: bool,
}

/// Where a checkpoint has one parameter of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The tensor, named within the layer, or within the model if it is `outside`.
    pub tensor: String,
    /// The rows of it that are the parameter, if not all.
    pub slice: Option<Slice>,
    /// Whether it belongs to no layer.
    pub outside: bool,
}

/// Some rows of a tensor that several parameters share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The rows.
    pub rows: Range<usize>,
    /// Rows of the whole tensor.
    pub of: usize,
}

impl WeightMap {
    /// The checkpoint calls each module of the first names by the second.
    pub fn renamed(names: &[(&'static str, &'static str)]) -> Self {
        let entry = |&(module, name)| (module, Entry { name, slice: None, outside: false });
        Self { entries: names.iter().map(entry).collect() }
    }

    /// And each module of these by the second name.
    pub fn also_renamed(mut self, names: &[(&'static str, &'static str)]) -> Self {
        self.entries.extend(Self::renamed(names).entries);
        self
    }

    /// The checkpoint has several modules as one, their rows one after another; each with the number of its rows.
    pub fn fused(mut self, name: &'static str, modules: &[(&'static str, usize)]) -> Self {
        let of = modules.iter().map(|(_, rows)| rows).sum();
        let mut start = 0;
        for &(module, rows) in modules {
            let slice = Some(Slice { rows: start..start + rows, of });
            self.entries.push((module, Entry { name, slice, outside: false }));
            start += rows;
        }
        self
    }

    /// Queries, keys and values lie one after another in `name`.
    pub(crate) fn fused_qkv(self, name: &'static str, config: &DecoderConfig) -> Self {
        let [q, k, v] = SelfAttentionConfig::new(config).rows();
        self.fused(name, &[("self_attn.q_proj", q), ("self_attn.k_proj", k), ("self_attn.v_proj", v)])
    }

    /// The MLP's gate and what it multiplies lie one after another in `name`.
    pub(crate) fn fused_gate(self, name: &'static str, config: &DecoderConfig) -> Self {
        let rows = config.intermediate_size;
        self.fused(name, &[("mlp.gate_proj", rows), ("mlp.up_proj", rows)])
    }

    /// A parameter or module of a layer is one of the model as a whole.
    pub fn outside(mut self, module: &'static str, name: &'static str) -> Self {
        self.entries.push((module, Entry { name, slice: None, outside: true }));
        self
    }

    /// The tensor of a parameter.
    pub fn source(&self, parameter: &str) -> Source {
        let rest =
            |module: &str| parameter.strip_prefix(module).filter(|rest| rest.is_empty() || rest.starts_with('.'));
        let found = self.entries.iter().find_map(|(module, entry)| Some((entry, rest(module)?)));
        match found {
            Some((entry, rest)) => {
                Source { tensor: format!("{}{rest}", entry.name), slice: entry.slice.clone(), outside: entry.outside }
            }
            None => Source { tensor: parameter.to_owned(), slice: None, outside: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_renamed_and_cut() {
        let map = WeightMap::renamed(&[("self_attn.o_proj", "attn.out")]);
        let map = map.fused("attn.qkv", &[("self_attn.q_proj", 8), ("self_attn.k_proj", 2), ("self_attn.v_proj", 2)]);
        let map = map.outside("opening.positions", "wpe.weight");
        assert_eq!(map.source("self_attn.o_proj.bias").tensor, "attn.out.bias");
        assert_eq!(map.source("self_attn.o_projector.bias").tensor, "self_attn.o_projector.bias");
        let k = map.source("self_attn.k_proj.weight");
        assert_eq!((k.tensor.as_str(), k.slice), ("attn.qkv.weight", Some(Slice { rows: 8..10, of: 12 })));
        assert!(map.source("opening.positions").outside);
    }
}
