//! OLMo 3: OLMo 2 in which three layers of four have a window; only the others stretch their rotation.
//!
//! Reference: `transformers/models/olmo3/modeling_olmo3.py`.

use serde::Deserialize;

use crate::config::Order;
use crate::layers::{DenseLayer, NormKind, QkNorm, RopeParameters, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, WeightMap};

/// The `config.json` of an OLMo 3.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Olmo3 {
    config: DecoderConfig,
    /// Of the layers with a window.
    local: RopeParameters,
}

impl From<DecoderConfig> for Olmo3 {
    fn from(mut config: DecoderConfig) -> Self {
        config.style.order = Order::Post;
        config.mlp_bias = false;
        config.rms_norm_eps.get_or_insert(1e-5);
        config.sliding_window.get_or_insert(Some(4096));
        config.window_pattern(4);
        let [global, local] = config.ropes_of_kinds();
        config.rope_parameters = Some(global.with_theta(config.rope_theta.unwrap_or(THETA)));
        // The config's `rope_theta` is that of the other layers.
        let mut local = local.with_theta(THETA);
        local.max_position_embeddings = config.max_positions();
        Self { config, local }
    }
}

const THETA: f64 = 500_000.0;

impl Architecture for Olmo3 {
    const FAMILY: &'static str = "OLMo 3";
    const MODEL_TYPES: &'static [&'static str] = &["olmo3"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.local.check()?;
        self.config.check().and_then(|()| self.config.check_typed_windows())
    }

    fn sliding_window(&self, index: usize) -> Option<usize> {
        self.config.typed_window(index)
    }

    fn layer_rope(&self, index: usize) -> RopeParameters {
        if self.sliding_window(index).is_some() { self.local.clone() } else { self.rope() }
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::post_norms()
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let config = &self.config;
        let attention = SelfAttentionConfig {
            sliding_window: self.sliding_window(index),
            qk_norm: Some((QkNorm::Whole(NormKind::Rms), config.rms_norm_eps())),
            ..SelfAttentionConfig::new(config)
        };
        DenseLayer::new(config, &attention, device)
    }
}
