//! MiniCPM3: dense layers with DeepSeek's latent attention, whose heads turn by halves, and with embeddings, residuals
//! and logits scaled by what the widths and the depth say.
//!
//! Reference: `transformers/models/minicpm3/modeling_minicpm3.py`.

use burn::module::Module;
use burn::prelude::Tensor;
use serde::{Deserialize, Deserializer};

use crate::config::{LatentFields, With, part, unsupported};
use crate::layers::{GatedMlp, LatentAttention, Opening, RmsNorm, RopeParameters, Step};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, DecoderLayer, Dims};

/// The `config.json` of a MiniCPM3.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<Fields>")]
pub struct MiniCpm3 {
    base: DecoderConfig,
    latent: LatentFields,
    scales: Scales,
}

#[derive(Debug, Clone)]
struct Fields {
    latent: LatentFields,
    scales: Scales,
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = serde_json::Value::deserialize(deserializer)?;
        Ok(Self { latent: part(&config)?, scales: part(&config)? })
    }
}

/// What these fields are where the config is silent; `null` scales nothing.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct Scales {
    scale_emb: f64,
    scale_depth: Option<f64>,
    dim_model_base: Option<usize>,
}

impl Default for Scales {
    fn default() -> Self {
        Self { scale_emb: 12.0, scale_depth: Some(1.4), dim_model_base: Some(256) }
    }
}

impl From<With<Fields>> for MiniCpm3 {
    fn from(With { mut base, own: Fields { mut latent, scales } }: With<Fields>) -> Self {
        latent.q_lora_rank.get_or_insert(Some(768));
        latent.kv_lora_rank.get_or_insert(256);
        latent.qk_nope_head_dim.get_or_insert(64);
        latent.v_head_dim.get_or_insert(base.hidden_size / base.num_attention_heads.max(1));
        latent.rope_interleave = Some(false);
        // Heads have a width of their own here.
        base.head_dim = Some(*latent.qk_rope_head_dim.get_or_insert(32));
        base.num_key_value_heads = Some(None);
        base.rms_norm_eps.get_or_insert(1e-5);
        base.max_position_embeddings.get_or_insert(32_768);
        let depth = (base.num_hidden_layers as f64).sqrt();
        base.style.residual_scale = scales.scale_depth.map_or(1.0, |scale| scale / depth);
        base.style.logit_scale = scales.dim_model_base.map_or(1.0, |width| width as f64 / base.hidden_size as f64);
        Self { base, latent, scales }
    }
}

impl Architecture for MiniCpm3 {
    const FAMILY: &'static str = "MiniCPM3";
    const MODEL_TYPES: &'static [&'static str] = &["minicpm3"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = MiniCpm3Layer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        self.latent.check(&self.base)?;
        match self.scales.dim_model_base {
            Some(0) => Err(unsupported("dim_model_base", 0, "a positive number")),
            _ => Ok(()),
        }
    }

    fn dims(&self) -> Dims {
        self.latent.dims(&self.base)
    }

    fn rope(&self) -> RopeParameters {
        self.latent.rope(&self.base)
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MiniCpm3Layer<B> {
        let norm = || RmsNorm::new(self.base.hidden_size, self.base.rms_norm_eps(), device);
        MiniCpm3Layer {
            opening: (index == 0).then(|| Opening::scaled(self.scales.scale_emb)),
            input_layernorm: norm(),
            self_attn: LatentAttention::new(&self.latent.attention(&self.base), device),
            post_attention_layernorm: norm(),
            mlp: GatedMlp::new(&self.base, device),
            residual_scale: self.base.style.residual_scale,
        }
    }
}

/// One layer of a MiniCPM3.
#[derive(Module, Debug)]
pub struct MiniCpm3Layer<B: Backend> {
    opening: Option<Opening<B>>,
    input_layernorm: RmsNorm<B>,
    self_attn: LatentAttention<B>,
    post_attention_layernorm: RmsNorm<B>,
    mlp: GatedMlp<B>,
    residual_scale: f64,
}

impl<B: Backend> DecoderLayer<B> for MiniCpm3Layer<B> {
    fn forward(&self, x: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let x = match &self.opening {
            Some(opening) => opening.forward(x, step.queries),
            None => x,
        };
        let attended = self.self_attn.forward(self.input_layernorm.before(x.clone()), None, step);
        let x = x + attended * self.residual_scale;
        let made = self.mlp.forward(self.post_attention_layernorm.before(x.clone()), None);
        x + made * self.residual_scale
    }
}
