//! ChatGLM2, ChatGLM3 and GLM-4 as their own repositories have them: Llama with queries, keys and values in one matrix
//! and a fused gate, and rotations of neighbours in one half of each head.
//!
//! Reference: `modeling_chatglm.py` of its repositories.

use serde::Deserialize;

use crate::config::unsupported;
use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Names, WeightMap};

/// The `config.json` of a ChatGLM2.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "ChatGlmConfig")]
pub struct ChatGlm {
    config: DecoderConfig,
    own: ChatGlmConfig,
}

#[derive(Debug, Clone, Deserialize)]
struct ChatGlmConfig {
    padded_vocab_size: usize,
    hidden_size: usize,
    ffn_hidden_size: usize,
    num_layers: usize,
    num_attention_heads: usize,
    kv_channels: Option<usize>,
    multi_query_attention: Option<bool>,
    multi_query_group_num: Option<usize>,
    layernorm_epsilon: Option<f64>,
    rmsnorm: Option<bool>,
    seq_length: Option<usize>,
    rope_ratio: Option<f64>,
    add_bias_linear: Option<bool>,
    add_qkv_bias: Option<bool>,
    post_layer_norm: Option<bool>,
    apply_residual_connection_post_layernorm: Option<bool>,
}

impl From<ChatGlmConfig> for ChatGlm {
    fn from(own: ChatGlmConfig) -> Self {
        let bias = own.add_bias_linear.unwrap_or(false);
        let shared = own.multi_query_attention.unwrap_or(false);
        let mut config = DecoderConfig {
            hidden_size: own.hidden_size,
            intermediate_size: own.ffn_hidden_size,
            num_hidden_layers: own.num_layers,
            num_attention_heads: own.num_attention_heads,
            num_key_value_heads: Some(own.multi_query_group_num.filter(|_| shared)),
            head_dim: own.kv_channels,
            rms_norm_eps: Some(own.layernorm_epsilon.unwrap_or(1e-5)),
            vocab_size: own.padded_vocab_size,
            max_position_embeddings: own.seq_length.or(Some(2048)),
            attention_bias: bias || own.add_qkv_bias.unwrap_or(false),
            mlp_bias: bias,
            rope_theta: Some(10_000.0 * own.rope_ratio.unwrap_or(1.0)),
            ..DecoderConfig::default()
        };
        (config.style.partial_rotary, config.style.interleaved) = (Some(0.5), true);
        Self { config, own }
    }
}

impl Architecture for ChatGlm {
    const FAMILY: &'static str = "ChatGLM2, ChatGLM3, GLM-4 (remote code)";
    const MODEL_TYPES: &'static [&'static str] = &["chatglm"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn check(&self) -> Result<(), ConfigError> {
        let own = &self.own;
        if own.rmsnorm == Some(false) {
            return Err(unsupported("rmsnorm", false, "true"));
        }
        if own.post_layer_norm == Some(false) {
            return Err(unsupported("post_layer_norm", false, "true"));
        }
        match own.apply_residual_connection_post_layernorm {
            Some(true) => Err(unsupported("apply_residual_connection_post_layernorm", true, "false")),
            _ => self.config.check(),
        }
    }

    fn names(&self) -> Names {
        Names {
            prefix: "transformer.",
            embedding: "embedding.word_embeddings.weight",
            layers: "encoder.layers",
            norm: "encoder.final_layernorm",
            head: "transformer.output_layer",
            unused: &[],
            ignored: &["rotary_pos_emb.inv_freq"],
        }
    }

    fn weight_map(&self) -> WeightMap {
        let map =
            WeightMap::renamed(&[("self_attn.o_proj", "self_attention.dense"), ("mlp.down_proj", "mlp.dense_4h_to_h")]);
        map.fused_qkv("self_attention.query_key_value", &self.config).fused_gate("mlp.dense_h_to_4h", &self.config)
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let o_bias = self.own.add_bias_linear.unwrap_or(false);
        let attention = SelfAttentionConfig { o_bias, ..SelfAttentionConfig::new(&self.config) };
        DenseLayer::new(&self.config, &attention, device)
    }
}
