//! Qwen 1: Llama by other names, with queries, keys and values in one matrix with a bias. Beyond the length that it was
//! shown, queries grow with the logarithm of their position, and longer prompts turn more slowly.
//!
//! Reference: `modeling_qwen.py` of its repositories.

use serde::Deserialize;

use crate::config::unsupported;
use crate::layers::{DenseLayer, QueryGrowth, RopeParameters, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Names, WeightMap};

/// The `config.json` of a Qwen (1).
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "QwenConfig")]
pub struct Qwen {
    config: DecoderConfig,
    /// The length that it was shown.
    shown: usize,
    /// What queries do beyond it.
    query_growth: Option<QueryGrowth>,
    rope: RopeParameters,
}

#[derive(Debug, Clone, Deserialize)]
struct QwenConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    kv_channels: Option<usize>,
    layer_norm_epsilon: Option<f64>,
    no_bias: Option<bool>,
    rotary_pct: Option<f64>,
    rotary_emb_base: Option<f64>,
    seq_length: Option<usize>,
    max_position_embeddings: Option<usize>,
    use_dynamic_ntk: Option<bool>,
    use_logn_attn: Option<bool>,
}

impl From<QwenConfig> for Qwen {
    fn from(own: QwenConfig) -> Self {
        let shown = own.seq_length.unwrap_or(8192);
        let mut config = DecoderConfig {
            hidden_size: own.hidden_size,
            // Of both halves of the gated MLP.
            intermediate_size: own.intermediate_size / 2,
            num_hidden_layers: own.num_hidden_layers,
            num_attention_heads: own.num_attention_heads,
            head_dim: own.kv_channels,
            rms_norm_eps: own.layer_norm_epsilon,
            vocab_size: own.vocab_size,
            max_position_embeddings: Some(own.max_position_embeddings.unwrap_or(shown).max(shown)),
            attention_bias: true,
            mlp_bias: own.no_bias == Some(false),
            partial_rotary_factor: own.rotary_pct,
            rope_theta: own.rotary_emb_base,
            ..DecoderConfig::default()
        };
        config.style.partial_rotary = Some(1.0);
        let rope = if own.use_dynamic_ntk == Some(false) { config.rope() } else { config.rope().by_prompt(shown) };
        let grows = own.use_logn_attn != Some(false);
        Self { config, shown, query_growth: grows.then_some(QueryGrowth::Log { beyond: shown }), rope }
    }
}

impl Architecture for Qwen {
    const FAMILY: &'static str = "Qwen (1)";
    const MODEL_TYPES: &'static [&'static str] = &["qwen"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn check(&self) -> Result<(), ConfigError> {
        match self.shown {
            0 | 1 => Err(unsupported("seq_length", self.shown, "2 at least")),
            _ => self.config.check(),
        }
    }

    fn rope(&self) -> RopeParameters {
        self.rope.clone()
    }

    fn names(&self) -> Names {
        let ignored = &["rotary_emb.inv_freq", ".attn.masked_bias"];
        Names {
            prefix: "transformer.",
            embedding: "wte.weight",
            layers: "h",
            norm: "ln_f",
            ignored,
            ..Names::default()
        }
    }

    fn weight_map(&self) -> WeightMap {
        let map = WeightMap::renamed(&[
            ("input_layernorm", "ln_1"),
            ("self_attn.o_proj", "attn.c_proj"),
            ("post_attention_layernorm", "ln_2"),
            ("mlp.gate_proj", "mlp.w2"),
            ("mlp.up_proj", "mlp.w1"),
            ("mlp.down_proj", "mlp.c_proj"),
        ]);
        map.fused_qkv("attn.c_attn", &self.config)
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let (o_bias, query_growth) = (self.config.mlp_bias, self.query_growth);
        let attention = SelfAttentionConfig { o_bias, query_growth, ..SelfAttentionConfig::new(&self.config) };
        DenseLayer::new(&self.config, &attention, device)
    }
}
