//! GPT-2: learned positions, LayerNorms, biases, an MLP without a gate, and matrices stored `[in, out]`.
//!
//! Reference: `transformers/models/gpt2/modeling_gpt2.py`.

use serde::Deserialize;

use crate::gpt::GptConfig;
use crate::layers::{DenseLayer, Opening, Qkv, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Names, WeightMap};

/// The `config.json` of a GPT-2.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "GptConfig")]
pub struct Gpt2 {
    config: DecoderConfig,
    own: GptConfig,
}

impl From<GptConfig> for Gpt2 {
    fn from(own: GptConfig) -> Self {
        let mut config = own.decoder(1024);
        (config.style.no_rope, config.style.transposed) = (true, true);
        Self { config, own }
    }
}

impl Architecture for Gpt2 {
    const FAMILY: &'static str = "GPT-2";
    const MODEL_TYPES: &'static [&'static str] = &["gpt2"];
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
        WeightMap::gpt().outside("opening.positions", "wpe.weight")
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let config = &self.config;
        let scale = self.own.scale(index, config.head_dim());
        let attention = SelfAttentionConfig { qkv: Qkv::Groups(1), scale, ..SelfAttentionConfig::new(config) };
        DenseLayer::new(config, &attention, device).opened(index, || Opening::positions(config, 0, device))
    }
}

impl WeightMap {
    /// What GPT-2 and StarCoder 1 call the parts of a layer.
    pub(crate) fn gpt() -> Self {
        Self::renamed(&[
            ("input_layernorm", "ln_1"),
            ("self_attn.qkv_proj", "attn.c_attn"),
            ("self_attn.o_proj", "attn.c_proj"),
            ("post_attention_layernorm", "ln_2"),
            ("mlp.up_proj", "mlp.c_fc"),
            ("mlp.down_proj", "mlp.c_proj"),
        ])
    }
}
