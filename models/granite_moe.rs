//! Granite 3 with experts: Mixtral whose embedding, attention, sums and logits are scaled by numbers of the config.
//!
//! Reference: `transformers/models/granitemoe/modeling_granitemoe.py`.

use burn::module::Module;
use burn::prelude::Tensor;
use serde::Deserialize;

use crate::config::{MoeConfig, Sparse, With, unsupported};
use crate::layers::{
    ExpertNames, Experts, GatedMlp, Mamba2Mixer, Moe, RmsNorm, Routing, Scoring, SelfAttention, SelfAttentionConfig,
    Step,
};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, DecoderLayer, WeightMap};

/// The `config.json` of a Granite with experts.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<MoeConfig>")]
pub struct GraniteMoe {
    base: DecoderConfig,
    own: MoeConfig,
    sparse: Sparse,
}

/// As Granite's checkpoints spell experts; single ones are only in those that were packed.
const NAMES: ExpertNames = ExpertNames {
    apart: [
        "block_sparse_moe.experts.{}.gate_proj.weight",
        "block_sparse_moe.experts.{}.up_proj.weight",
        "block_sparse_moe.experts.{}.down_proj.weight",
    ],
    together: ["block_sparse_moe.input_linear.weight", "block_sparse_moe.output_linear.weight"],
};

/// Fills in what all Granites with experts share, and gives these.
pub(crate) fn granite_experts(base: &mut DecoderConfig, own: &MoeConfig) -> Sparse {
    base.max_position_embeddings.get_or_insert(2048);
    base.mlp_bias = false;
    base.style.logit_scale = 1.0 / base.logits_scaling.unwrap_or(1.0);
    let routing = Routing::softmax(own.num_experts_per_tok.unwrap_or(2));
    let scale = own.residual_multiplier.unwrap_or(1.0) as f32;
    Sparse {
        count: own.num_local_experts.or(own.num_experts).unwrap_or(8),
        routing: Routing { scoring: Scoring::SoftmaxOfChosen, scale, ..routing },
        width: base.intermediate_size,
        names: NAMES,
        ..Sparse::default()
    }
}

impl From<With<MoeConfig>> for GraniteMoe {
    fn from(With { mut base, own }: With<MoeConfig>) -> Self {
        let sparse = granite_experts(&mut base, &own);
        Self { base, own, sparse }
    }
}

impl Architecture for GraniteMoe {
    const FAMILY: &'static str = "Granite 3 with experts";
    const MODEL_TYPES: &'static [&'static str] = &["granitemoe"];
    type Layer<B: Backend> = GraniteMoeLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        check_scaling(&self.own)?;
        self.sparse.routing.check(self.sparse.count, ["num_local_experts", "num_experts_per_tok"])
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> GraniteMoeLayer<B> {
        let scale = self.own.attention_multiplier.unwrap_or(1.0);
        let attention = SelfAttentionConfig { scale, ..SelfAttentionConfig::new(&self.base) };
        let norm = || RmsNorm::new(self.base.hidden_size, self.base.rms_norm_eps(), device);
        GraniteMoeLayer {
            input_layernorm: norm(),
            self_attn: Some(SelfAttention::new(&attention, device)),
            mamba: None,
            post_attention_layernorm: norm(),
            shared_mlp: None,
            mlp: Some(self.sparse.block(&self.base, device)),
            // What comes out of the embedding goes into the first layer and nowhere else.
            embedding_multiplier: self.own.embedding_multiplier.filter(|_| index == 0).unwrap_or(1.0),
            residual_multiplier: self.own.residual_multiplier.unwrap_or(1.0),
        }
    }

    fn experts(&self, _index: usize) -> Option<Experts> {
        Some(self.sparse.experts(&self.base))
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[("mlp.gate", "block_sparse_moe.router.layer")])
    }
}

/// Refuses logits that would be divided by nothing.
pub(crate) fn check_scaling(own: &MoeConfig) -> Result<(), ConfigError> {
    match own.logits_scaling == Some(0.0) {
        true => Err(unsupported("logits_scaling", 0, "a number that logits can be divided by")),
        false => Ok(()),
    }
}

/// One layer of a Granite with experts, or of one that has a state in some layers. What experts add is scaled with their
/// weights.
#[derive(Module, Debug)]
pub struct GraniteMoeLayer<B: Backend> {
    pub(crate) input_layernorm: RmsNorm<B>,
    pub(crate) self_attn: Option<SelfAttention<B>>,
    pub(crate) mamba: Option<Mamba2Mixer<B>>,
    pub(crate) post_attention_layernorm: RmsNorm<B>,
    /// An MLP for every token.
    pub(crate) shared_mlp: Option<GatedMlp<B>>,
    pub(crate) mlp: Option<Moe<B>>,
    pub(crate) embedding_multiplier: f64,
    pub(crate) residual_multiplier: f64,
}

impl<B: Backend> DecoderLayer<B> for GraniteMoeLayer<B> {
    fn forward(&self, x: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let x = if self.embedding_multiplier == 1.0 { x } else { x * self.embedding_multiplier };
        let input = self.input_layernorm.before(x.clone());
        let mixed = match (&self.self_attn, &self.mamba) {
            (Some(attention), _) => attention.forward(input, None, step),
            (None, Some(mamba)) => mamba.forward(input, None, step),
            (None, None) => unreachable!("a layer has attention or a state"),
        };
        let x = x + mixed * self.residual_multiplier;
        let input = self.post_attention_layernorm.before(x.clone());
        let x = match &self.shared_mlp {
            Some(mlp) => x + mlp.forward(input.clone(), None) * self.residual_multiplier,
            None => x,
        };
        match &self.mlp {
            Some(experts) => experts.forward(input, x, step),
            None => x,
        }
    }
}
