use super::{Alibi, QkNorm};
use crate::config::DecoderConfig;

/// What distinguishes one family's self-attention from another's.
#[derive(Debug, Clone)]
pub struct SelfAttentionConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads.
    pub num_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// How the checkpoint has queries, keys and values.
    pub qkv: Qkv,
    /// Bias on q, k and v.
    pub qkv_bias: bool,
    /// Bias on the output.
    pub o_bias: bool,
    /// Whether matrices are stored `[in, out]`.
    pub transposed: bool,
    /// Epsilon of an RMSNorm on every q and k head, if there is one.
    pub qk_norm_eps: Option<f64>,
    /// Any other norm of queries and keys, with its epsilon.
    pub qk_norm: Option<(QkNorm, f64)>,
    /// Epsilon of an RMSNorm without a weight on every v head, if there is one.
    pub v_norm_eps: Option<f64>,
    /// Whether values are the keys as they are before norm and rotation.
    pub values_are_keys: bool,
    /// Whether keys and values are those of another layer.
    pub shares_keys: bool,
    /// What queries, keys and values are cut off at, on either side of 0.
    pub clip_qkv: Option<f64>,
    /// Positions that a query sees, itself included, if not all.
    pub sliding_window: Option<usize>,
    /// What scores are multiplied by.
    pub scale: f64,
    /// How queries grow with their position, if they do.
    pub query_growth: Option<QueryGrowth>,
    /// What scaled scores are held below in size, smoothly.
    pub softcap: Option<f64>,
    /// How scores fall with the distance, if they do.
    pub alibi: Option<Alibi>,
    /// Whether what each query head gives is weighed by a gate, which lies behind its query.
    pub gated: bool,
    /// Whether each head has a score that counts in the softmax and has no value.
    pub sinks: bool,
}

/// How a checkpoint has the matrices of queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qkv {
    /// Three, or three runs of rows.
    Apart,
    /// One, in so many groups of heads: in each the queries, then their keys, then their values.
    Groups(usize),
}

/// How queries grow with their position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum QueryGrowth {
    /// After every so many positions, by the logarithm of how many times, times `beta` (Ministral 3).
    Steps {
        /// How much.
        beta: f64,
        /// After how many positions.
        every: usize,
    },
    /// As the logarithm of their position does beyond this one (Qwen 1).
    Log {
        /// Where it begins.
        beyond: usize,
    },
}

impl QueryGrowth {
    /// Positions up to which nothing grows.
    pub(super) fn beyond(&self) -> usize {
        match *self {
            Self::Steps { every, .. } => every,
            Self::Log { beyond } => beyond,
        }
    }

    /// What the query at a position is multiplied by.
    pub(super) fn at(&self, position: i32) -> f32 {
        let position = f64::from(position.max(0));
        let growth = match *self {
            Self::Steps { beta, every } => 1.0 + beta * (position / every as f64).floor().ln_1p(),
            Self::Log { beyond } => ((position + 1.0).ln() / (beyond as f64).ln()).max(1.0),
        };
        growth as f32
    }
}

impl SelfAttentionConfig {
    /// Attention as `config.json` describes it: biases by `attention_bias`, no norms, no window.
    pub fn new(config: &DecoderConfig) -> Self {
        Self {
            hidden_size: config.hidden_size,
            num_heads: config.num_attention_heads,
            num_kv_heads: config.num_kv_heads(),
            head_dim: config.head_dim(),
            qkv: Qkv::Apart,
            qkv_bias: config.attention_bias,
            o_bias: config.attention_bias,
            transposed: config.style.transposed,
            qk_norm_eps: None,
            qk_norm: None,
            v_norm_eps: None,
            values_are_keys: false,
            shares_keys: false,
            clip_qkv: config.clip_qkv,
            sliding_window: None,
            scale: (config.head_dim() as f64).powf(-0.5),
            query_growth: None,
            softcap: config.attn_logit_softcapping.filter(|_| config.style.softcaps),
            alibi: config.style.alibi.then(|| Alibi::new(config.num_attention_heads)),
            gated: false,
            sinks: false,
        }
    }

    /// Rows of the matrices of queries, keys and values.
    pub(crate) fn rows(&self) -> [usize; 3] {
        let [queries, keys] = [self.num_heads, self.num_kv_heads].map(|heads| heads * self.head_dim);
        [queries, keys, keys]
    }
}
