//! Hunyuan, dense: Llama that norms every query and key head behind the rotation, whose base may be stretched by
//! `alpha`.
//!
//! Reference: `transformers/models/hunyuan_v1_dense/modeling_hunyuan_v1_dense.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, NormKind, QkNorm, RopeParameters, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig, WeightMap};

/// The `config.json` of a Hunyuan (dense).
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct HunYuan(DecoderConfig);

impl From<DecoderConfig> for HunYuan {
    fn from(mut config: DecoderConfig) -> Self {
        config.rms_norm_eps.get_or_insert(1e-5);
        config.max_position_embeddings.get_or_insert(2048);
        config.mlp_bias = false;
        Self(config)
    }
}

impl Architecture for HunYuan {
    const FAMILY: &'static str = "Hunyuan (dense)";
    const MODEL_TYPES: &'static [&'static str] = &["hunyuan_v1_dense"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn rope(&self) -> RopeParameters {
        self.0.rope().stretched_by_alpha(self.0.head_dim())
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[
            ("self_attn.q_norm", "self_attn.query_layernorm"),
            ("self_attn.k_norm", "self_attn.key_layernorm"),
        ])
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let attention = SelfAttentionConfig {
            qk_norm: Some((QkNorm::EachRotated(NormKind::Rms), self.0.rms_norm_eps())),
            ..SelfAttentionConfig::new(&self.0)
        };
        DenseLayer::new(&self.0, &attention, device)
    }
}
