//! Mamba 2: no attention at all, each layer is a norm and a state space.
//!
//! Reference: `transformers/models/mamba2/modeling_mamba2.py`.

use burn::module::Module;
use burn::prelude::Tensor;
use serde::Deserialize;

use crate::config::{Float, StateSpace, With};
use crate::layers::{Mamba2Mixer, Mamba2MixerConfig, RmsNorm, StateShape, Step};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, DecoderLayer, Names, WeightMap};

/// The `config.json` of a Mamba 2.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<Mamba2Fields>")]
pub struct Mamba2 {
    base: DecoderConfig,
    mixer: StateSpace,
}

/// Fields that other families do not have.
#[derive(Debug, Clone, Deserialize)]
struct Mamba2Fields {
    num_heads: Option<usize>,
    head_dim: Option<usize>,
    state_size: Option<usize>,
    expand: Option<f64>,
    conv_kernel: Option<usize>,
    n_groups: Option<usize>,
    use_bias: Option<bool>,
    use_conv_bias: Option<bool>,
    time_step_limit: Option<[Float; 2]>,
}

impl From<With<Mamba2Fields>> for Mamba2 {
    fn from(With { mut base, own }: With<Mamba2Fields>) -> Self {
        base.rms_norm_eps = Some(base.layer_norm_eps.unwrap_or(1e-5));
        let mixer = StateSpace {
            fields: ["num_heads", "head_dim", "state_size", "n_groups", "conv_kernel", "expand"],
            expand: own.expand.unwrap_or(2.0),
            config: Mamba2MixerConfig {
                hidden_size: base.hidden_size,
                num_heads: own.num_heads.unwrap_or(128),
                head_dim: own.head_dim.unwrap_or(64),
                state_size: own.state_size.unwrap_or(128),
                groups: own.n_groups.unwrap_or(8),
                kernel: own.conv_kernel.unwrap_or(4),
                bias: own.use_bias.unwrap_or(false),
                conv_bias: own.use_conv_bias.unwrap_or(true),
                hidden_act: base.hidden_act,
                norm_eps: base.rms_norm_eps(),
                time_step_limit: StateSpace::limit(own.time_step_limit),
            },
        };
        // There is no attention and no MLP, and nothing ends at a position.
        (base.num_attention_heads, base.num_key_value_heads, base.head_dim) = (1, Some(Some(1)), Some(2));
        base.intermediate_size = 1;
        base.max_position_embeddings = Some(i32::MAX as usize);
        base.layer_types = None;
        base.style.no_rope = true;
        Self { base, mixer }
    }
}

impl Architecture for Mamba2 {
    const FAMILY: &'static str = "Mamba 2";
    const MODEL_TYPES: &'static [&'static str] = &["mamba2"];
    type Layer<B: Backend> = Mamba2Layer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        self.mixer.check()
    }

    fn state(&self, _index: usize) -> Option<StateShape> {
        Some(self.mixer.config.state())
    }

    fn names(&self) -> Names {
        Names { prefix: "backbone.", embedding: "embeddings.weight", norm: "norm_f", ..Names::default() }
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[("mixer.a_log", "mixer.A_log"), ("mixer.d", "mixer.D")])
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> Mamba2Layer<B> {
        Mamba2Layer {
            norm: RmsNorm::new(self.base.hidden_size, self.base.rms_norm_eps(), device),
            mixer: Mamba2Mixer::new(&self.mixer.config, device),
        }
    }
}

/// A layer of Mamba 2. Field names are the checkpoint's.
#[derive(Module, Debug)]
pub struct Mamba2Layer<B: Backend> {
    norm: RmsNorm<B>,
    mixer: Mamba2Mixer<B>,
}

impl<B: Backend> DecoderLayer<B> for Mamba2Layer<B> {
    fn forward(&self, x: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        self.mixer.forward(self.norm.before(x.clone()), x, step)
    }
}
