//! GPT-J: attention and MLP side by side behind one LayerNorm, and rotations of neighbours in a part of each head.
//!
//! Reference: `transformers/models/gptj/modeling_gptj.py`.

use serde::Deserialize;

use crate::config::{Order, unsupported};
use crate::gpt::GptConfig;
use crate::layers::{DenseLayer, RopeParameters, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Names, WeightMap};

/// The `config.json` of a GPT-J.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "GptConfig")]
pub struct GptJ {
    config: DecoderConfig,
    own: GptConfig,
}

impl From<GptConfig> for GptJ {
    fn from(own: GptConfig) -> Self {
        let mut config = own.decoder(2048);
        let style = &mut config.style;
        (style.order, style.interleaved, style.head_bias) = (Order::Parallel, true, true);
        config.attention_bias = false;
        Self { config, own }
    }
}

impl Architecture for GptJ {
    const FAMILY: &'static str = "GPT-J";
    const MODEL_TYPES: &'static [&'static str] = &["gptj"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.own.check()?;
        self.config.check()?;
        match self.rotary_dim() {
            dim if dim == 0 || dim % 2 != 0 || dim > self.config.head_dim() => {
                let expected = format!("an even number up to head_dim = {}", self.config.head_dim());
                Err(unsupported("rotary_dim", dim, expected))
            }
            _ => Ok(()),
        }
    }

    fn rope(&self) -> RopeParameters {
        let mut rope = self.config.rope();
        rope.rotary_dim = Some(self.rotary_dim());
        rope
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
        WeightMap::renamed(&[
            ("input_layernorm", "ln_1"),
            ("self_attn.q_proj", "attn.q_proj"),
            ("self_attn.k_proj", "attn.k_proj"),
            ("self_attn.v_proj", "attn.v_proj"),
            ("self_attn.o_proj", "attn.out_proj"),
            ("mlp.up_proj", "mlp.fc_in"),
            ("mlp.down_proj", "mlp.fc_out"),
        ])
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        DenseLayer::new(&self.config, &SelfAttentionConfig::new(&self.config), device)
    }
}

impl GptJ {
    /// How many numbers of a head turn.
    fn rotary_dim(&self) -> usize {
        self.own.rotary_dim.unwrap_or(self.config.head_dim())
    }
}
