//! Llama 4: most layers turn neighbours in a head and norm what they have turned, the others know no positions; experts
//! are given hidden states that are weighed already.
//!
//! Layers that turn see no further back than to the last multiple of `attention_chunk_size`.
//!
//! Reference: `transformers/models/llama4/modeling_llama4.py`.

mod attention;

use burn::module::Module;
use burn::prelude::Tensor;
use serde::{Deserialize, Deserializer};

use self::attention::{Llama4Attention, Temperature};
use crate::config::{MoeConfig, Sparse, With, check_sizes, part, unsupported};
use crate::layers::{
    ExpertKind, ExpertNames, Experts, FeedForward, GatedMlp, RmsNorm, RopeParameters, Routing, Scoring,
    SelfAttentionConfig, Step,
};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, DecoderLayer, Dims, WeightMap};

/// The `config.json` of a Llama 4.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<Llama4Fields>")]
pub struct Llama4 {
    base: DecoderConfig,
    own: Llama4Fields,
    /// Layer by layer, whether it sees its chunk alone or everything, where the config says it.
    chunked: Option<Vec<String>>,
    sparse: Sparse,
}

/// Fields that other families do not have.
#[derive(Debug, Clone)]
struct Llama4Fields {
    moe: MoeConfig,
    text: TextFields,
}

impl<'de> Deserialize<'de> for Llama4Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = serde_json::Value::deserialize(deserializer)?;
        Ok(Self { moe: part(&config)?, text: part(&config)? })
    }
}

#[derive(Debug, Clone, Deserialize)]
struct TextFields {
    intermediate_size_mlp: Option<usize>,
    moe_layers: Option<Vec<usize>>,
    interleave_moe_layer_step: Option<usize>,
    no_rope_layers: Option<Vec<usize>>,
    no_rope_layer_interval: Option<usize>,
    attention_chunk_size: Option<usize>,
    attn_temperature_tuning: Option<serde_json::Value>,
    floor_scale: Option<f64>,
    attn_scale: Option<f64>,
}

/// As Llama 4's checkpoints spell experts, all in one.
const NAMES: ExpertNames = ExpertNames {
    together: ["feed_forward.experts.gate_up_proj", "feed_forward.experts.down_proj"],
    ..ExpertNames::USUAL
};

/// How `layer_types` calls a layer that sees its chunk alone.
const CHUNKED: &str = "chunked_attention";

impl From<With<Llama4Fields>> for Llama4 {
    fn from(With { mut base, own }: With<Llama4Fields>) -> Self {
        base.num_key_value_heads.get_or_insert(Some(8));
        base.head_dim.get_or_insert(128);
        base.rms_norm_eps.get_or_insert(1e-5);
        base.max_position_embeddings.get_or_insert(131_072);
        let chunked = base.layer_types.take();
        base.mlp_bias = false;
        let routing = Routing::softmax(own.moe.num_experts_per_tok.unwrap_or(1));
        let sparse = Sparse {
            count: own.moe.num_local_experts.or(own.moe.num_experts).unwrap_or(16),
            routing: Routing { scoring: Scoring::Sigmoid, weighs_input: true, ..routing },
            width: base.intermediate_size,
            names: NAMES,
            kind: Some(ExpertKind::Transposed(base.hidden_act)),
            ..Sparse::default()
        };
        Self { base, own, chunked, sparse }
    }
}

impl Llama4 {
    /// Whether layer `index` knows positions.
    fn turns(&self, index: usize) -> bool {
        match self.own.text.no_rope_layers.as_deref().filter(|layers| !layers.is_empty()) {
            Some(turns) => turns.get(index).is_some_and(|turns| *turns != 0),
            None => !(index + 1).is_multiple_of(self.own.text.no_rope_layer_interval.unwrap_or(4)),
        }
    }

    /// Positions of a chunk, where layer `index` sees its own alone.
    fn chunk(&self, index: usize) -> Option<usize> {
        let chunked = match &self.chunked {
            Some(kinds) => kinds[index] == CHUNKED,
            None => self.turns(index),
        };
        let size = self.own.text.attention_chunk_size.unwrap_or(8192);
        (chunked && size < self.base.max_positions()).then_some(size)
    }

    fn is_sparse(&self, index: usize) -> bool {
        match &self.own.text.moe_layers {
            Some(layers) => layers.contains(&index),
            None => (index + 1).is_multiple_of(self.own.text.interleave_moe_layer_step.unwrap_or(1)),
        }
    }

    fn mlp_width(&self) -> usize {
        self.own.text.intermediate_size_mlp.unwrap_or(16_384)
    }

    /// How scores sharpen with the position, where a layer knows none.
    fn temperature(&self, index: usize) -> Option<Temperature> {
        // Some configs say it by a number.
        let off = |value: &serde_json::Value| value.as_bool() == Some(false) || value.as_f64() == Some(0.0);
        let tunes = !self.turns(index) && !self.own.text.attn_temperature_tuning.as_ref().is_some_and(off);
        let (floor_scale, attn_scale) =
            (self.own.text.floor_scale.unwrap_or(8192.0), self.own.text.attn_scale.unwrap_or(0.1));
        tunes.then_some(Temperature { floor_scale, attn_scale })
    }
}

impl Architecture for Llama4 {
    const FAMILY: &'static str = "Llama 4";
    const MODEL_TYPES: &'static [&'static str] = &["llama4_text"];
    type Layer<B: Backend> = Llama4Layer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        let width = self.mlp_width();
        if width == 0 || width > i32::MAX as usize {
            return Err(unsupported("intermediate_size_mlp", width, format!("a positive number up to {}", i32::MAX)));
        }
        check_sizes([("interleave_moe_layer_step", self.own.text.interleave_moe_layer_step.unwrap_or(1))])?;
        if self.own.text.floor_scale.is_some_and(|scale| scale <= 0.0) {
            return Err(unsupported("floor_scale", self.own.text.floor_scale.unwrap_or(0.0), "a positive number"));
        }
        if let Some(turns) = self.own.text.no_rope_layers.as_ref().filter(|layers| !layers.is_empty())
            && turns.len() != self.base.num_hidden_layers
        {
            let expected = format!("one entry for each of {} layers", self.base.num_hidden_layers);
            return Err(unsupported("no_rope_layers", format!("of length {}", turns.len()), expected));
        }
        if self.own.text.attention_chunk_size == Some(0) {
            return Err(unsupported("attention_chunk_size", 0, "a positive number"));
        }
        if let Some(kinds) = &self.chunked {
            if kinds.len() != self.base.num_hidden_layers {
                let expected = format!("one entry for each of {} layers", self.base.num_hidden_layers);
                return Err(unsupported("layer_types", format!("of length {}", kinds.len()), expected));
            }
            if let Some(kind) = kinds.iter().find(|kind| ![CHUNKED, "full_attention"].contains(&kind.as_str())) {
                return Err(unsupported("layer_types", kind, "chunked_attention or full_attention"));
            }
        }
        self.sparse.routing.check(self.sparse.count, ["num_local_experts", "num_experts_per_tok"])
    }

    fn dims(&self) -> Dims {
        let dims = self.base.dims();
        let shapes_scores = (0..dims.num_layers).any(|index| self.chunk(index).is_some());
        Dims { intermediate_size: dims.intermediate_size.max(self.mlp_width()), shapes_scores, ..dims }
    }

    /// At the end of a chunk, all of it.
    fn sliding_window(&self, index: usize) -> Option<usize> {
        self.chunk(index)
    }

    fn rope(&self) -> RopeParameters {
        let mut rope = self.base.rope();
        rope.rope_theta.get_or_insert(500_000.0);
        rope.interleaved = true;
        rope
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> Llama4Layer<B> {
        let norm = || RmsNorm::new(self.base.hidden_size, self.base.rms_norm_eps(), device);
        let turns = self.turns(index);
        let norms = turns && self.own.moe.use_qk_norm != Some(false);
        let attention = SelfAttentionConfig::new(&self.base);
        let eps = norms.then_some(self.base.rms_norm_eps());
        let feed_forward = match self.is_sparse(index) {
            true => self.sparse.feed_forward_beside(self.base.intermediate_size, &self.base, device),
            false => FeedForward::Dense(GatedMlp::with_width(&self.base, self.mlp_width(), device)),
        };
        Llama4Layer {
            input_layernorm: norm(),
            self_attn: Llama4Attention::new(
                &attention,
                (turns, self.chunk(index)),
                eps,
                self.temperature(index),
                device,
            ),
            post_attention_layernorm: norm(),
            feed_forward,
        }
    }

    fn experts(&self, index: usize) -> Option<Experts> {
        self.is_sparse(index).then(|| self.sparse.experts(&self.base))
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[
            ("feed_forward.gate", "feed_forward.router"),
            ("feed_forward.shared_experts", "feed_forward.shared_expert"),
        ])
    }
}

/// One layer of a Llama 4.
#[derive(Module, Debug)]
pub struct Llama4Layer<B: Backend> {
    input_layernorm: RmsNorm<B>,
    self_attn: Llama4Attention<B>,
    post_attention_layernorm: RmsNorm<B>,
    feed_forward: FeedForward<B>,
}

impl<B: Backend> DecoderLayer<B> for Llama4Layer<B> {
    fn forward(&self, x: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let x = self.self_attn.forward(self.input_layernorm.before(x.clone()), x, step);
        self.feed_forward.forward(self.post_attention_layernorm.before(x.clone()), x, step)
    }
}
