//! StarCoder 1 and SantaCoder: GPT-2 whose matrices are stored `[out, in]` and whose queries share one head of keys
//! and values.
//!
//! Reference: `transformers/models/gpt_bigcode/modeling_gpt_bigcode.py`.

use serde::Deserialize;

use crate::gpt::GptConfig;
use crate::layers::{DenseLayer, Opening, Qkv, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Names, WeightMap};

/// The `config.json` of a StarCoder.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "GptConfig")]
pub struct GptBigCode {
    config: DecoderConfig,
    own: GptConfig,
}

impl From<GptConfig> for GptBigCode {
    fn from(own: GptConfig) -> Self {
        let mut config = own.decoder(1024);
        config.style.no_rope = true;
        config.num_key_value_heads = Some(Some(if own.multi_query == Some(false) { own.n_head } else { 1 }));
        Self { config, own }
    }
}

impl Architecture for GptBigCode {
    const FAMILY: &'static str = "StarCoder, SantaCoder";
    const MODEL_TYPES: &'static [&'static str] = &["gpt_bigcode"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.own.check().and_then(|()| self.config.check())
    }

    fn names(&self) -> Names {
        Names {
            prefix: "transformer.",
            embedding: "wte.weight",
            layers: "h",
            norm: "ln_f",
            ignored: &[".attn.bias", ".attn.masked_bias"],
            ..Names::default()
        }
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::gpt().fused_qkv("attn.c_attn", &self.config).outside("opening.positions", "wpe.weight")
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let config = &self.config;
        // Each head has its queries, keys and values together, unless keys and values are shared.
        let qkv = if self.own.multi_query == Some(false) { Qkv::Groups(self.own.n_head) } else { Qkv::Apart };
        let scale = self.own.scale(0, config.head_dim());
        let attention = SelfAttentionConfig { qkv, scale, ..SelfAttentionConfig::new(config) };
        DenseLayer::new(config, &attention, device).opened(index, || Opening::positions(config, 0, device))
    }
}
