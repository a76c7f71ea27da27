//! ERNIE 4.5: neighbours in a head turn together, and experts are chosen by a corrected softmax; beside them is one that
//! all tokens share.
//!
//! Reference: `transformers/models/ernie4_5_moe/modeling_ernie4_5_moe.py`.

use serde::Deserialize;

use crate::config::{MoeConfig, Sparse, With, dense, shared_width, unsupported};
use crate::layers::{Correction, Experts, MoeLayer, Normed, RopeParameters, Routing, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Dims, Names, WeightMap};

/// The `config.json` of an ERNIE 4.5 with experts.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<MoeConfig>")]
pub struct Ernie4_5Moe {
    base: DecoderConfig,
    own: MoeConfig,
    sparse: Sparse,
    /// Width inside the shared experts together.
    shared: usize,
}

impl From<With<MoeConfig>> for Ernie4_5Moe {
    fn from(With { mut base, own }: With<MoeConfig>) -> Self {
        base.num_key_value_heads.get_or_insert(Some(4));
        base.rms_norm_eps.get_or_insert(1e-5);
        base.max_position_embeddings.get_or_insert(131_072);
        // On all linear layers but those of experts that tokens choose.
        let bias = own.use_bias == Some(true);
        (base.attention_bias, base.mlp_bias, base.style.head_bias) = (bias, bias, bias);
        let normed = Some(Normed::AtLeast(own.moe_norm_min.unwrap_or(1e-12)));
        let sparse = Sparse {
            count: own.moe_num_experts.or(own.num_experts).unwrap_or(64),
            routing: Routing { normed, ..Routing::softmax(own.moe_k.or(own.num_experts_per_tok).unwrap_or(6)) },
            width: own.moe_intermediate_size.unwrap_or(1536),
            correction: Correction::Row,
            ..Sparse::default()
        };
        let shared = shared_width(&sparse, own.moe_num_shared_experts.unwrap_or(2));
        Self { base, own, sparse, shared }
    }
}

impl Architecture for Ernie4_5Moe {
    const FAMILY: &'static str = "ERNIE 4.5 with experts";
    const MODEL_TYPES: &'static [&'static str] = &["ernie4_5_moe"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = MoeLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        self.own.check()?;
        if self.own.moe_layer_interval == Some(0) {
            return Err(unsupported("moe_layer_interval", 0, "a positive number"));
        }
        self.sparse.routing.check(self.sparse.count, ["moe_num_experts", "moe_k"])
    }

    fn dims(&self) -> Dims {
        let dims = self.base.dims();
        Dims { intermediate_size: dims.intermediate_size.max(self.shared), ..dims }
    }

    fn rope(&self) -> RopeParameters {
        let mut rope = self.base.rope();
        rope.rope_theta.get_or_insert(500_000.0);
        rope.interleaved = true;
        rope
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MoeLayer<B> {
        let mlp = match self.experts(index) {
            Some(_) => self.sparse.feed_forward_beside(self.shared, &self.base, device),
            None => dense(&self.base, device),
        };
        MoeLayer::new(&self.base, &SelfAttentionConfig::new(&self.base), mlp, device)
    }

    fn experts(&self, index: usize) -> Option<Experts> {
        let first = self.own.moe_layer_start_index.unwrap_or(1);
        let last = match self.own.moe_layer_end_index {
            // The last layer.
            None | Some(-1) => i64::MAX,
            Some(last) => last,
        };
        let step = self.own.moe_layer_interval.unwrap_or(1).max(1);
        let is_sparse = (index + 1).is_multiple_of(step) && index >= first && index as i64 <= last;
        is_sparse.then(|| self.sparse.experts(&self.base))
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[("mlp.gate.moe_statics", "mlp.moe_statics")])
    }

    fn names(&self) -> Names {
        // Some checkpoints have layers that predict further tokens.
        Names { unused: &["mtp_"], ..Names::default() }
    }
}
