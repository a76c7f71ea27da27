use crate::layers::NormKind;

/// What a family does otherwise than Llama, where `config.json` does not say it or each family spells it differently.
#[derive(Debug, Clone, PartialEq)]
pub struct Style {
    /// The kind of all norms but those of queries and keys.
    pub norm: NormKind,
    /// Where the norms stand.
    pub order: Order,
    /// Whether matrices but the head's are stored `[in, out]`.
    pub transposed: bool,
    /// Whether the MLP multiplies by a gate.
    pub gated: bool,
    /// Whether the MLP's activation is learned.
    pub xielu: bool,
    /// What attention and MLP are multiplied by before they are added.
    pub residual_scale: f64,
    /// Whether the head adds a bias.
    pub head_bias: bool,
    /// What logits are multiplied by.
    pub logit_scale: f64,
    /// Whether the head's rows are made of length 1.
    pub normed_head: bool,
    /// The part of a head that turns where the config is silent; all of it, whatever the config says, if absent.
    pub partial_rotary: Option<f64>,
    /// Whether neighbouring numbers of a head turn together, and not its halves.
    pub interleaved: bool,
    /// Whether positions turn nothing.
    pub no_rope: bool,
    /// Whether scores fall with the distance, by a slope of each head.
    pub alibi: bool,
    /// Whether scores and logits are capped where the config says so; in other families it says so in vain.
    pub softcaps: bool,
}

/// Where the norms of a layer stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Before attention and before the MLP.
    Pre,
    /// Behind both, before the residual is added.
    Post,
    /// Behind both, when the residual has been added.
    PostSum,
    /// Before and behind both.
    Around,
    /// One for attention and MLP, which read the same hidden states.
    Parallel,
    /// One for each of attention and MLP, which read the same hidden states.
    ParallelApart,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            norm: NormKind::Rms,
            order: Order::Pre,
            transposed: false,
            gated: true,
            xielu: false,
            residual_scale: 1.0,
            head_bias: false,
            logit_scale: 1.0,
            normed_head: false,
            partial_rotary: None,
            interleaved: false,
            no_rope: false,
            alibi: false,
            softcaps: false,
        }
    }
}
