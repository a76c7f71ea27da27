//! What the `config.json` files of families with latent attention have in common.

use serde::{Deserialize, Deserializer};

use super::{ConfigError, unsupported};
use crate::layers::{LatentConfig, RopeParameters};
use crate::{DecoderConfig, Dims};

/// Fields that describe multi-head latent attention.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct LatentFields {
    /// Absent or `null`, which mean different things.
    #[serde(default, deserialize_with = "present")]
    pub(crate) q_lora_rank: Option<Option<usize>>,
    pub(crate) kv_lora_rank: Option<usize>,
    pub(crate) qk_rope_head_dim: Option<usize>,
    pub(crate) qk_nope_head_dim: Option<usize>,
    pub(crate) v_head_dim: Option<usize>,
    pub(crate) rope_interleave: Option<bool>,
}

/// Tells `null` from an absent field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<usize>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl LatentFields {
    /// The attention that they describe.
    pub(crate) fn attention(&self, config: &DecoderConfig) -> LatentConfig {
        let (rope, nope) = (self.qk_rope_head_dim.unwrap_or(64), self.qk_nope_head_dim.unwrap_or(128));
        LatentConfig {
            hidden_size: config.hidden_size,
            num_heads: config.num_attention_heads,
            q_lora_rank: self.q_lora_rank.unwrap_or(Some(1536)),
            kv_lora_rank: self.kv_lora_rank.unwrap_or(512),
            qk_rope_head_dim: rope,
            qk_nope_head_dim: nope,
            v_head_dim: self.v_head_dim.unwrap_or(128),
            bias: config.attention_bias,
            scale: (rope.saturating_add(nope) as f64).powf(-0.5) * config.rope().score_scale(),
        }
    }

    /// The rotary position embedding of the part of a head that turns.
    pub(crate) fn rope(&self, config: &DecoderConfig) -> RopeParameters {
        let mut rope = config.rope();
        rope.rotary_dim = Some(self.attention(config).qk_rope_head_dim);
        rope.interleaved = self.rope_interleave.unwrap_or(true);
        rope
    }

    /// Sizes in which one key head serves all queries, its keys being its values.
    pub(crate) fn dims(&self, config: &DecoderConfig) -> Dims {
        let cached = self.attention(config).cached();
        Dims { num_kv_heads: 1, head_dim: cached, kv_len: cached, ..config.dims() }
    }

    /// Refuses widths that are nothing.
    pub(crate) fn check(&self, config: &DecoderConfig) -> Result<(), ConfigError> {
        let attention = self.attention(config);
        let positive = [
            ("q_lora_rank", attention.q_lora_rank.unwrap_or(1)),
            ("kv_lora_rank", attention.kv_lora_rank),
            ("qk_rope_head_dim", attention.qk_rope_head_dim),
            ("qk_nope_head_dim", attention.qk_nope_head_dim),
            ("v_head_dim", attention.v_head_dim),
        ];
        if let Some((field, value)) = positive.into_iter().find(|(_, value)| *value == 0 || *value > 1 << 20) {
            return Err(unsupported(field, value, "a positive number up to a million"));
        }
        match attention.qk_rope_head_dim.is_multiple_of(2) {
            true => Ok(()),
            false => Err(unsupported("qk_rope_head_dim", attention.qk_rope_head_dim, "an even number")),
        }
    }
}
