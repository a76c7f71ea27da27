//! DeepSeek-V2, V2-Lite and Coder-V2: latent attention, and experts that are chosen by a softmax, from groups if the
//! config says so.
//!
//! Reference: `transformers/models/deepseek_v2/modeling_deepseek_v2.py`.

use serde::Deserialize;

use crate::config::{Deepseek, DeepseekFields, Sparse, With, unsupported};
use crate::layers::{Experts, Groups, MoeLayer, RopeParameters, Routing};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Dims};

/// The `config.json` of a DeepSeek-V2.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<DeepseekFields>")]
pub struct DeepseekV2(Deepseek);

impl From<With<DeepseekFields>> for DeepseekV2 {
    fn from(mut config: With<DeepseekFields>) -> Self {
        config.base.max_position_embeddings.get_or_insert(2048);
        // Neighbours always turn together here.
        config.own.latent.rope_interleave = Some(true);
        let own = &config.own.moe;
        // Neither `norm_topk_prob` nor `scoring_func` is read.
        let groups = (own.topk_method.as_deref() == Some("group_limited_greedy")).then(|| Groups {
            count: own.n_group.unwrap_or(0),
            top_k: own.topk_group.unwrap_or(0),
            best: 1,
        });
        let routing = Routing::softmax(own.num_experts_per_tok.unwrap_or(0));
        let sparse = Sparse {
            count: own.n_routed_experts.unwrap_or(64),
            routing: Routing { groups, scale: own.routed_scaling_factor.unwrap_or(1.0), ..routing },
            width: own.moe_intermediate_size.unwrap_or(1407),
            ..Sparse::default()
        };
        Self(Deepseek::new(config, sparse, 2))
    }
}

impl Architecture for DeepseekV2 {
    const FAMILY: &'static str = "DeepSeek-V2, V2-Lite, Coder-V2";
    const MODEL_TYPES: &'static [&'static str] = &["deepseek_v2"];
    type Layer<B: Backend> = MoeLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        let method = self.0.own.moe.topk_method.as_deref().unwrap_or("greedy");
        match ["greedy", "group_limited_greedy"].contains(&method) {
            true => self.0.check(),
            false => Err(unsupported("topk_method", method, "greedy or group_limited_greedy")),
        }
    }

    fn dims(&self) -> Dims {
        self.0.dims()
    }

    fn rope(&self) -> RopeParameters {
        self.0.own.latent.rope(&self.0.base)
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MoeLayer<B> {
        self.0.layer(self.0.is_sparse(index, 0), device)
    }

    fn experts(&self, index: usize) -> Option<Experts> {
        self.0.is_sparse(index, 0).then(|| self.0.experts())
    }
}
