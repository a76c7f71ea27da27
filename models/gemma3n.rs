//! Gemma 3n, its text part: of several streams of hidden states each layer computes one and foresees the others; beside
//! attention goes a way of low rank, gates of the first MLPs are sparse, layers have inputs of their own from a second
//! embedding, and the last ones read the keys and values of others.
//!
//! Reference: `transformers/models/gemma3n/modeling_gemma3n.py`.

mod altup;
mod config;
mod layer;
mod mlp;

use serde::Deserialize;

use self::altup::{AltUp, Projections};
use self::config::{Gemma3nConfig, Gemma3nFields};
pub use self::layer::Gemma3nLayer;
use self::layer::Laurel;
use self::mlp::SparseMlp;
use crate::config::KvSharing;
use crate::layers::{
    LayerInput, LayerInputSize, LayerInputs, Linear, NormKind, Opening, RmsNorm, RopeParameters, SelfAttention,
    SelfAttentionConfig,
};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Dims, LayerEmbedding, Names, WeightMap};

/// The `text_config` of a Gemma 3n.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Gemma3nConfig")]
pub struct Gemma3n {
    config: DecoderConfig,
    own: Gemma3nFields,
    sharing: KvSharing,
    /// Of the layers with a window.
    local: RopeParameters,
}

impl From<Gemma3nConfig> for Gemma3n {
    fn from(Gemma3nConfig { base: mut config, mut own }: Gemma3nConfig) -> Self {
        config.max_position_embeddings.get_or_insert(32_768);
        config.sliding_window.get_or_insert(Some(512));
        config.num_key_value_heads.get_or_insert(Some(2));
        config.gemma_defaults();
        config.gemma2_defaults();
        config.style.norm = NormKind::Rms;
        config.attn_logit_softcapping = None;
        config.query_pre_attn_scalar = None;
        config.final_logit_softcapping.get_or_insert(30.0);
        config.window_pattern(5);
        if config.vocab_size == 0 {
            config.vocab_size = 262_400;
        }
        if config.num_attention_heads == 0 {
            config.num_attention_heads = 8;
        }
        let [global, local] = config.ropes_of_kinds();
        config.rope_parameters = Some(global.with_theta(config.rope_theta.unwrap_or(1_000_000.0)));
        let mut local = local.with_theta(config.rope_local_base_freq.unwrap_or(10_000.0));
        local.max_position_embeddings = config.max_positions();
        let sharing = KvSharing::new(&config, own.num_kv_shared_layers.unwrap_or(15));
        own.fill_in(config.num_hidden_layers, config.intermediate_size);
        Self { config, own, sharing, local }
    }
}

impl Architecture for Gemma3n {
    const FAMILY: &'static str = "Gemma 3n (text)";
    const MODEL_TYPES: &'static [&'static str] = &["gemma3n_text"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = Gemma3nLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn check(&self) -> Result<(), ConfigError> {
        let config = &self.config;
        config.check_generates()?;
        self.local.check()?;
        config.check()?;
        config.check_typed_windows()?;
        self.own.check(config.num_hidden_layers)?;
        self.sharing.check(config)
    }

    fn dims(&self) -> Dims {
        let dims = self.config.dims();
        Dims { hidden_size: dims.hidden_size.saturating_mul(self.streams()), ..dims }
    }

    fn sliding_window(&self, index: usize) -> Option<usize> {
        self.config.typed_window(index)
    }

    fn kv_layer(&self, index: usize) -> usize {
        self.sharing.layer(index, self.sliding_window(index).is_some())
    }

    fn layer_embedding(&self) -> Option<LayerEmbedding> {
        let (rows, LayerInputSize { layers, width }) =
            (self.own.vocab_size_per_layer_input.unwrap_or(262_144), self.input_size());
        Some(LayerEmbedding { name: "embed_tokens_per_layer.weight", rows, width: layers * width })
    }

    fn layer_rope(&self, index: usize) -> RopeParameters {
        if self.sliding_window(index).is_some() { self.local.clone() } else { self.rope() }
    }

    fn names(&self) -> Names {
        Names { ignored: WeightMap::OF_SHARED_KEYS, ..Names::default() }
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::layer_inputs()
            .outside("altup_projections.list", "altup_projections")
            .outside("altup_unembed_projections.list", "altup_unembed_projections")
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> Gemma3nLayer<B> {
        let config = &self.config;
        let (hidden, eps, streams) = (config.hidden_size, config.rms_norm_eps(), self.streams());
        let norm = || RmsNorm::new(hidden, eps, device);
        let attention = SelfAttentionConfig {
            sliding_window: self.sliding_window(index),
            scale: 1.0,
            qk_norm_eps: Some(eps),
            v_norm_eps: Some(eps),
            shares_keys: self.sharing.shares(index),
            ..SelfAttentionConfig::new(config)
        };
        let (first, last) = (index == 0, index + 1 == config.num_hidden_layers);
        let projections = || Projections::new(streams, hidden, device);
        let rank = self.own.laurel_rank.unwrap_or(64);
        let (active, scales) = (self.own.altup_active_idx.unwrap_or(0), self.own.altup_correct_scale != Some(false));
        let (inner, sparsity) = self.own.mlp(index);
        Gemma3nLayer {
            opening: first.then(|| Opening::scaled(config.embedding_scale())),
            layer_inputs: first.then(|| LayerInputs::new(config, self.input_size(), device)),
            altup_projections: first.then(projections),
            altup: AltUp::new((streams, active), (hidden, eps), scales, device),
            input_layernorm: norm(),
            laurel: Laurel {
                linear_left: Linear::new(hidden, rank, false, device),
                linear_right: Linear::new(rank, hidden, false, device),
                post_laurel_norm: norm(),
            },
            self_attn: SelfAttention::new(&attention, device),
            post_attention_layernorm: norm(),
            pre_feedforward_layernorm: norm(),
            mlp: SparseMlp::new(config, inner, sparsity, device),
            post_feedforward_layernorm: norm(),
            layer_input: LayerInput::new(config, self.input_size().width, index, device),
            altup_unembed_projections: last.then(projections),
            streams,
        }
    }
}

impl Gemma3n {
    /// Streams of hidden states.
    fn streams(&self) -> usize {
        self.own.altup_num_inputs.unwrap_or(4)
    }

    /// The size of the inputs that layers have beside hidden states.
    fn input_size(&self) -> LayerInputSize {
        let width = self.own.hidden_size_per_layer_input.unwrap_or(256);
        LayerInputSize { layers: self.config.num_hidden_layers, width }
    }
}
