//! Gemma 4, its text part: Gemma 3 whose layers without a window have heads of another size, whose values are normed and
//! may be the keys, and whose layers end in a factor. The last layers may read the keys and values of others, layers may
//! have inputs of their own from a second embedding, and experts may work beside the MLP.
//!
//! Reference: `transformers/models/gemma4/modeling_gemma4.py`.

mod config;
mod layer;
mod router;

use serde::Deserialize;

use self::config::Gemma4Fields;
use self::layer::BesideMlp;
pub use self::layer::Gemma4Layer;
use self::router::Gemma4Router;
use crate::config::{KvSharing, With, unsupported};
use crate::layers::{
    Correction, ExpertKind, ExpertNames, Experts, GatedMlp, LayerInput, LayerInputSize, LayerInputs, NormKind, Normed,
    Opening, RmsNorm, RopeParameters, Router, Routing, SelfAttention, SelfAttentionConfig, parameter,
};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Dims, LayerEmbedding, Names, WeightMap};

/// The `config.json` of a Gemma 4, or its `text_config`.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<Gemma4Fields>")]
pub struct Gemma4 {
    config: DecoderConfig,
    own: Gemma4Fields,
    sharing: KvSharing,
    /// Of the layers with a window.
    local: RopeParameters,
}

/// As Gemma 4's checkpoints spell experts; single ones are only in those that were packed.
const NAMES: ExpertNames = ExpertNames {
    apart: ["experts.{}.gate_proj.weight", "experts.{}.up_proj.weight", "experts.{}.down_proj.weight"],
    together: ["experts.gate_up_proj", "experts.down_proj"],
};

impl From<With<Gemma4Fields>> for Gemma4 {
    fn from(With { base: mut config, own }: With<Gemma4Fields>) -> Self {
        config.max_position_embeddings.get_or_insert(131_072);
        config.sliding_window.get_or_insert(Some(512));
        config.gemma_defaults();
        config.gemma2_defaults();
        config.style.norm = NormKind::Rms;
        config.attn_logit_softcapping = None;
        config.query_pre_attn_scalar = None;
        config.window_pattern(6);
        // The last layer sees everything, whatever the list says.
        if let Some(last) = config.layer_types.as_mut().and_then(|kinds| kinds.last_mut()) {
            *last = "full_attention".to_owned();
        }
        let [global, local] = config.ropes_of_kinds();
        let global = if global.is_empty() { RopeParameters::proportional(0.25) } else { global };
        config.rope_parameters = Some(global.with_theta(1_000_000.0));
        let mut local = local.with_theta(10_000.0);
        local.max_position_embeddings = config.max_positions();
        let sharing = KvSharing::new(&config, own.num_kv_shared_layers.unwrap_or(0));
        Self { config, own, sharing, local }
    }
}

impl Architecture for Gemma4 {
    const FAMILY: &'static str = "Gemma 4 (text)";
    const MODEL_TYPES: &'static [&'static str] = &["gemma4_text"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = Gemma4Layer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn check(&self) -> Result<(), ConfigError> {
        let config = &self.config;
        self.own.check(config)?;
        let [_, [heads, head_dim]] = self.kv_heads();
        if head_dim == 0 || head_dim > 1 << 20 || !head_dim.is_multiple_of(2) {
            return Err(unsupported("global_head_dim", head_dim, "an even number up to a million"));
        }
        if heads == 0 || !config.num_attention_heads.is_multiple_of(heads) {
            let expected = format!("a divisor of num_attention_heads = {}", config.num_attention_heads);
            return Err(unsupported("num_global_key_value_heads", heads, expected));
        }
        config.check_generates()?;
        self.local.check()?;
        config.check()?;
        config.check_typed_windows()?;
        self.sharing.check(config)
    }

    /// Memory is planned for the wider of both kinds of heads.
    fn dims(&self) -> Dims {
        let kinds = self.kv_heads();
        let head_dim = kinds.iter().map(|[_, head_dim]| *head_dim).max().unwrap_or(1);
        let widest = kinds.iter().map(|[heads, head_dim]| heads * head_dim).max().unwrap_or(1);
        let num_kv_heads = widest.div_ceil(head_dim.max(1));
        let (last, kv_len) = (self.config.num_hidden_layers.saturating_sub(1), 2 * num_kv_heads * head_dim);
        Dims { head_dim, num_kv_heads, kv_len, intermediate_size: self.mlp_width(last), ..self.config.dims() }
    }

    fn sliding_window(&self, index: usize) -> Option<usize> {
        self.config.typed_window(index)
    }

    fn kv_layer(&self, index: usize) -> usize {
        self.sharing.layer(index, self.sliding_window(index).is_some())
    }

    fn layer_embedding(&self) -> Option<LayerEmbedding> {
        let (rows, width) = (self.own.vocab_size_per_layer_input.unwrap_or(262_144), self.input_size()?);
        Some(LayerEmbedding { name: "embed_tokens_per_layer.weight", rows, width: width.layers * width.width })
    }

    fn layer_rope(&self, index: usize) -> RopeParameters {
        match self.sliding_window(index) {
            Some(_) => self.local.clone().of_width(self.config.head_dim()),
            None => self.rope().of_width(self.kv_heads()[1][1]),
        }
    }

    fn names(&self) -> Names {
        Names { ignored: WeightMap::OF_SHARED_KEYS, ..Names::default() }
    }

    fn weight_map(&self) -> WeightMap {
        let of_experts = [
            ("experts.router", "router"),
            ("experts.pre_feedforward_layernorm_2", "pre_feedforward_layernorm_2"),
            ("experts.post_feedforward_layernorm_1", "post_feedforward_layernorm_1"),
            ("experts.post_feedforward_layernorm_2", "post_feedforward_layernorm_2"),
        ];
        WeightMap::layer_inputs().also_renamed(&of_experts)
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> Gemma4Layer<B> {
        let config = &self.config;
        let norm = || RmsNorm::new(config.hidden_size, config.rms_norm_eps(), device);
        let sliding_window = self.sliding_window(index);
        let global = sliding_window.is_none();
        let [num_kv_heads, head_dim] = self.kv_heads()[usize::from(global)];
        let attention = SelfAttentionConfig {
            num_kv_heads,
            head_dim,
            sliding_window,
            scale: 1.0,
            qk_norm_eps: Some(config.rms_norm_eps()),
            v_norm_eps: Some(config.rms_norm_eps()),
            values_are_keys: global && self.values_are_keys(),
            shares_keys: self.sharing.shares(index),
            ..SelfAttentionConfig::new(config)
        };
        let inputs = self.input_size();
        let beside = |experts: Experts| BesideMlp {
            router: {
                let shape = [experts.count, config.hidden_size];
                let proj = Router::new(shape, false, Correction::None, device);
                Gemma4Router::new(proj, self.routing(), shape, config.rms_norm_eps(), device)
            },
            pre_feedforward_layernorm_2: norm(),
            post_feedforward_layernorm_1: norm(),
            post_feedforward_layernorm_2: norm(),
        };
        Gemma4Layer {
            opening: (index == 0).then(|| Opening::scaled(config.embedding_scale())),
            layer_inputs: inputs.filter(|_| index == 0).map(|size| LayerInputs::new(config, size, device)),
            input_layernorm: norm(),
            self_attn: SelfAttention::new(&attention, device),
            post_attention_layernorm: norm(),
            pre_feedforward_layernorm: norm(),
            mlp: GatedMlp::with_width(config, self.mlp_width(index), device),
            post_feedforward_layernorm: norm(),
            experts: self.experts(index).map(beside),
            layer_input: inputs.map(|size| LayerInput::new(config, size.width, index, device)),
            layer_scalar: parameter([1], device),
        }
    }

    fn experts(&self, _index: usize) -> Option<Experts> {
        self.own.has_experts().then(|| Experts {
            count: self.own.num_experts.unwrap_or(0),
            chosen: self.own.top_k_experts.unwrap_or(0),
            hidden_size: self.config.hidden_size,
            intermediate_size: self.own.moe_intermediate_size.unwrap_or(0),
            kind: ExpertKind::Gated(self.config.hidden_act),
            names: NAMES,
        })
    }
}

impl Gemma4 {
    /// Heads of keys and their width, of layers with a window and of those without.
    fn kv_heads(&self) -> [[usize; 2]; 2] {
        let config = &self.config;
        let of_all = self.own.of_global_layers();
        let own = self.own.num_global_key_value_heads.filter(|_| self.values_are_keys());
        let heads = of_all.and_then(|layer| layer.num_key_value_heads).or(own).unwrap_or(config.num_kv_heads());
        let head_dim = match of_all {
            Some(layer) => layer.head_dim.unwrap_or(config.head_dim()),
            None => self.own.global_head_dim.unwrap_or(512),
        };
        [[config.num_kv_heads(), config.head_dim()], [heads, head_dim]]
    }

    fn values_are_keys(&self) -> bool {
        self.own.attention_k_eq_v == Some(true)
    }

    /// The size of the inputs that layers have beside hidden states, if they have some.
    fn input_size(&self) -> Option<LayerInputSize> {
        let width = self.own.hidden_size_per_layer_input.unwrap_or(256);
        (width > 0).then_some(LayerInputSize { layers: self.config.num_hidden_layers, width })
    }

    /// Width inside the MLP of layer `index`.
    fn mlp_width(&self, index: usize) -> usize {
        let doubled = self.own.use_double_wide_mlp == Some(true) && self.sharing.shares(index);
        self.config.intermediate_size.saturating_mul(if doubled { 2 } else { 1 })
    }

    fn routing(&self) -> Routing {
        Routing { normed: Some(Normed::Plus(0.0)), ..Routing::softmax(self.own.top_k_experts.unwrap_or(0)) }
    }
}
