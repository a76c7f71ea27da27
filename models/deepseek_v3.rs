//! DeepSeek-V3, R1, Moonlight and Kimi-K2: latent attention, and experts that are chosen by sigmoids from groups.
//!
//! Reference: `transformers/models/deepseek_v3/modeling_deepseek_v3.py`.

use serde::Deserialize;

use crate::config::{Deepseek, DeepseekFields, V3Defaults, With, v3_experts};
use crate::layers::{Experts, MoeLayer, RopeParameters};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Dims};

/// The `config.json` of a DeepSeek-V3.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<DeepseekFields>")]
pub struct DeepseekV3(Deepseek);

/// Dense layers at the beginning, where the config is silent.
const DENSE_LAYERS: usize = 3;

impl From<With<DeepseekFields>> for DeepseekV3 {
    fn from(mut config: With<DeepseekFields>) -> Self {
        config.base.max_position_embeddings.get_or_insert(4096);
        config.base.mlp_bias = false;
        let defaults = V3Defaults {
            n_group: 8,
            topk_group: 4,
            num_experts_per_tok: 8,
            routed_scaling_factor: 2.5,
            n_routed_experts: 256,
            moe_intermediate_size: 2048,
        };
        let sparse = v3_experts(&config.own.moe, &defaults);
        Self(Deepseek::new(config, sparse, 1))
    }
}

impl Architecture for DeepseekV3 {
    const FAMILY: &'static str = "DeepSeek-V3, R1, Moonlight, Kimi-K2";
    const MODEL_TYPES: &'static [&'static str] = &["deepseek_v3", "kimi_k2"];
    type Layer<B: Backend> = MoeLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.0.check()
    }

    fn dims(&self) -> Dims {
        self.0.dims()
    }

    fn rope(&self) -> RopeParameters {
        self.0.own.latent.rope(&self.0.base)
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MoeLayer<B> {
        self.0.layer(self.0.is_sparse(index, DENSE_LAYERS), device)
    }

    fn experts(&self, index: usize) -> Option<Experts> {
        self.0.is_sparse(index, DENSE_LAYERS).then(|| self.0.experts())
    }

    /// Layers that predict further tokens, behind the last.
    fn unused_layers(&self) -> usize {
        self.0.own.moe.predicting_layers()
    }
}
