//! StarCoder2: Llama with LayerNorms, biases, and an MLP without a gate.
//!
//! Reference: `transformers/models/starcoder2/modeling_starcoder2.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, NormKind, SelfAttentionConfig};
use crate::{Activation, Architecture, Backend, DecoderConfig, WeightMap};

/// The `config.json` of a StarCoder2.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Starcoder2(DecoderConfig);

impl From<DecoderConfig> for Starcoder2 {
    fn from(mut config: DecoderConfig) -> Self {
        (config.style.norm, config.style.gated) = (NormKind::LayerBias, false);
        let bias = config.use_bias.unwrap_or(true);
        (config.attention_bias, config.mlp_bias) = (bias, bias);
        config.num_key_value_heads.get_or_insert(Some(2));
        config.max_position_embeddings.get_or_insert(4096);
        if config.hidden_act == Activation::Silu {
            config.hidden_act = Activation::GeluPytorchTanh;
        }
        Self(config)
    }
}

impl Architecture for Starcoder2 {
    const FAMILY: &'static str = "StarCoder2";
    const MODEL_TYPES: &'static [&'static str] = &["starcoder2"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn sliding_window(&self, _index: usize) -> Option<usize> {
        self.0.sliding_window.flatten()
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[("mlp.up_proj", "mlp.c_fc"), ("mlp.down_proj", "mlp.c_proj")])
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let attention =
            SelfAttentionConfig { sliding_window: self.sliding_window(index), ..SelfAttentionConfig::new(&self.0) };
        DenseLayer::new(&self.0, &attention, device)
    }
}
