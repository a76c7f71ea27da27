//! Checkpoints of real shapes with random weights, to measure with.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;
use safetensors::{Dtype, View};
use serde_json::json;

use crate::disk;
use crate::error::{AtPath, Error, Result};
use crate::run_dtype::RunDtype;

/// The shape of a Llama, or with experts of a Mixtral or a Qwen3-MoE, to make up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of config.json")]
pub struct Synth {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub vocab_size: usize,
    pub tie_word_embeddings: bool,
    /// Whether queries and keys are normed, as a Qwen3-MoE's are; for models with experts.
    pub qk_norm: bool,
    /// Experts in the place of every MLP; none for a Llama.
    pub num_local_experts: usize,
    pub num_experts_per_tok: usize,
    pub dtype: RunDtype,
}

impl Synth {
    /// The shapes of a well-known model: `llama-3.2-1b`, `llama-3.1-8b`, `llama-3.1-70b`, `mixtral-8x7b` or
    /// `qwen3-30b-a3b`.
    pub fn preset(name: &str) -> Result<Self> {
        let llama3 = |hidden_size, intermediate_size, num_hidden_layers, num_attention_heads| Self {
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: 8,
            head_dim: hidden_size / num_attention_heads,
            qk_norm: false,
            vocab_size: 128_256,
            tie_word_embeddings: false,
            num_local_experts: 0,
            num_experts_per_tok: 0,
            dtype: RunDtype::Bfloat16,
        };
        match name {
            "llama-3.2-1b" => Ok(Self { tie_word_embeddings: true, ..llama3(2048, 8192, 16, 32) }),
            "llama-3.1-8b" => Ok(llama3(4096, 14_336, 32, 32)),
            "llama-3.1-70b" => Ok(llama3(8192, 28_672, 80, 64)),
            "mixtral-8x7b" => Ok(Self {
                vocab_size: 32_000,
                num_local_experts: 8,
                num_experts_per_tok: 2,
                ..llama3(4096, 14_336, 32, 32)
            }),
            "qwen3-30b-a3b" => Ok(Self {
                num_key_value_heads: 4,
                head_dim: 128,
                qk_norm: true,
                vocab_size: 151_936,
                num_local_experts: 128,
                num_experts_per_tok: 8,
                ..llama3(2048, 768, 48, 32)
            }),
            other => Err(Error::Name {
                what: "preset",
                found: other.to_owned(),
                expected: "llama-3.2-1b, llama-3.1-8b, llama-3.1-70b, mixtral-8x7b or qwen3-30b-a3b".to_owned(),
            }),
        }
    }

    /// Writes `config.json`, the shards, one for each layer, and their index into `dir`; bytes follow from `seed`.
    pub fn write(&self, dir: &Path, seed: u64) -> Result<()> {
        let unusable = |reason: &str| Err(Error::Unsupported { path: dir.to_owned(), reason: reason.to_owned() });
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if self.num_hidden_layers == 0 || self.num_hidden_layers > 10_000 || self.vocab_size == 0 {
            return unusable("a model has 1 to 10000 layers and a vocabulary");
        }
        if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) || self.head_dim == 0 {
            return unusable("key heads divide the heads, and heads have a width");
        }
        if self.qk_norm && self.num_local_experts == 0 {
            return unusable("queries and keys are normed in models with experts alone");
        }
        if self.num_local_experts > 1 << 12 || self.num_experts_per_tok > self.num_local_experts {
            return unusable("a layer has up to 4096 experts, and a token chooses among them");
        }
        if dir.join("config.json").exists() {
            return unusable("there is a checkpoint already; choose another directory");
        }
        let mut shards = vec![self.outer()];
        shards.extend((0..self.num_hidden_layers).map(|index| self.layer(index)));
        let width = if self.dtype == RunDtype::Bfloat16 || self.dtype == RunDtype::Float16 { 2 } else { 4 };
        let bytes = |(_, shape): &(String, Vec<usize>)| {
            shape.iter().fold(width, |product: u64, size| product.saturating_mul(*size as u64))
        };
        disk::check_room(dir, shards.iter().flatten().map(bytes).fold(0, u64::saturating_add))?;
        std::fs::create_dir_all(dir).at(dir)?;
        let name = |index: usize| format!("model-{:05}-of-{:05}.safetensors", index + 1, self.num_hidden_layers + 1);
        shards.par_iter().enumerate().try_for_each(|(index, tensors)| {
            let path = dir.join(name(index));
            let view = |(i, (tensor, shape)): (usize, &(String, Vec<usize>))| {
                let seed = seed ^ ((index << 16 | i) as u64);
                (tensor.clone(), Random { dtype: self.dtype, shape: shape.clone(), seed })
            };
            let views: Vec<_> = tensors.iter().enumerate().map(view).collect();
            safetensors::serialize_to_file(views, None, &path)
                .map_err(|error| Error::Unsupported { path: path.clone(), reason: error.to_string() })
        })?;
        let place = |(index, tensors): (usize, Vec<(String, _)>)| {
            tensors.into_iter().map(|(tensor, _)| (tensor, name(index))).collect::<Vec<_>>()
        };
        let weight_map: BTreeMap<_, _> = shards.into_iter().enumerate().flat_map(place).collect();
        let write = |name: &str, json: serde_json::Value| {
            let path = dir.join(name);
            std::fs::write(&path, format!("{json:#}\n")).at(&path)
        };
        write("model.safetensors.index.json", json!({ "metadata": {}, "weight_map": weight_map }))?;
        write("config.json", self.config())
    }

    fn config(&self) -> serde_json::Value {
        let mut config = json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab_size,
            "tie_word_embeddings": self.tie_word_embeddings,
            "max_position_embeddings": 131_072,
            "rms_norm_eps": 1e-5,
            "rope_parameters": { "rope_type": "default", "rope_theta": 500_000.0 },
            "hidden_act": "silu",
            "dtype": match self.dtype {
                RunDtype::Float16 => "float16",
                RunDtype::Bfloat16 => "bfloat16",
                RunDtype::Float32 | RunDtype::Auto => "float32",
            },
        });
        if self.qk_norm {
            config["architectures"] = json!(["Qwen3MoeForCausalLM"]);
            config["model_type"] = json!("qwen3_moe");
            config["num_experts"] = json!(self.num_local_experts);
            config["num_experts_per_tok"] = json!(self.num_experts_per_tok);
            config["moe_intermediate_size"] = json!(self.intermediate_size);
            config["norm_topk_prob"] = json!(true);
        } else if self.num_local_experts > 0 {
            config["architectures"] = json!(["MixtralForCausalLM"]);
            config["model_type"] = json!("mixtral");
            config["num_local_experts"] = json!(self.num_local_experts);
            config["num_experts_per_tok"] = json!(self.num_experts_per_tok);
        }
        config
    }

    fn outer(&self) -> Vec<(String, Vec<usize>)> {
        let matrix = vec![self.vocab_size, self.hidden_size];
        let head = (!self.tie_word_embeddings).then(|| ("lm_head.weight".to_owned(), matrix.clone()));
        let mut tensors = vec![
            ("model.embed_tokens.weight".to_owned(), matrix),
            ("model.norm.weight".to_owned(), vec![self.hidden_size]),
        ];
        tensors.extend(head);
        tensors
    }

    fn layer(&self, index: usize) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let [queries, keys] = [self.num_attention_heads, self.num_key_value_heads].map(|heads| heads * self.head_dim);
        let mut tensors = vec![
            ("input_layernorm".to_owned(), vec![hidden]),
            ("post_attention_layernorm".to_owned(), vec![hidden]),
            ("self_attn.q_proj".to_owned(), vec![queries, hidden]),
            ("self_attn.k_proj".to_owned(), vec![keys, hidden]),
            ("self_attn.v_proj".to_owned(), vec![keys, hidden]),
            ("self_attn.o_proj".to_owned(), vec![hidden, queries]),
        ];
        if self.qk_norm {
            tensors.extend(["q_norm", "k_norm"].map(|norm| (format!("self_attn.{norm}"), vec![self.head_dim])));
        }
        let mlp = |prefix: String, names: [&str; 3]| {
            let shapes = [vec![inner, hidden], vec![inner, hidden], vec![hidden, inner]];
            names.map(|name| format!("{prefix}.{name}")).into_iter().zip(shapes)
        };
        match self.num_local_experts {
            0 => tensors.extend(mlp("mlp".to_owned(), ["gate_proj", "up_proj", "down_proj"])),
            experts if self.qk_norm => {
                tensors.push(("mlp.gate".to_owned(), vec![experts, hidden]));
                let expert = |expert| mlp(format!("mlp.experts.{expert}"), ["gate_proj", "up_proj", "down_proj"]);
                tensors.extend((0..experts).flat_map(expert));
            }
            experts => {
                tensors.push(("block_sparse_moe.gate".to_owned(), vec![experts, hidden]));
                let expert = |expert| mlp(format!("block_sparse_moe.experts.{expert}"), ["w1", "w3", "w2"]);
                tensors.extend((0..experts).flat_map(expert));
            }
        }
        tensors.into_iter().map(|(name, shape)| (format!("model.layers.{index}.{name}.weight"), shape)).collect()
    }
}

/// A tensor whose numbers are made when it is written: ones for a norm, else evenly spread with the variance that
/// keeps hidden states of order 1.
struct Random {
    dtype: RunDtype,
    shape: Vec<usize>,
    seed: u64,
}

impl View for Random {
    fn dtype(&self) -> Dtype {
        match self.dtype {
            RunDtype::Float16 => Dtype::F16,
            RunDtype::Bfloat16 => Dtype::BF16,
            RunDtype::Float32 | RunDtype::Auto => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let width = match self.shape.as_slice() {
            [_, inputs] => (3.0 / *inputs as f32).sqrt(),
            _ => 0.0,
        };
        let mut number = || match width {
            0.0 => 1.0,
            width => (rng.random::<f32>() * 2.0 - 1.0) * width,
        };
        let count: usize = self.shape.iter().product();
        let mut bytes = Vec::with_capacity(self.data_len());
        for _ in 0..count {
            match self.dtype {
                RunDtype::Float16 => bytes.extend(f16::from_f32(number()).to_le_bytes()),
                RunDtype::Bfloat16 => bytes.extend(bf16::from_f32(number()).to_le_bytes()),
                RunDtype::Float32 | RunDtype::Auto => bytes.extend(number().to_le_bytes()),
            }
        }
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype().bitsize() / 8
    }
}
