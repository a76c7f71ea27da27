use super::DecoderConfig;
use crate::Backend;
use crate::layers::{Correction, ExpertKind, ExpertNames, Experts, FeedForward, GatedMlp, Moe, Router, Routing};

/// The experts of a layer: how many, how chosen, how wide, how spelled.
#[derive(Debug, Clone)]
pub(crate) struct Sparse {
    pub(crate) count: usize,
    pub(crate) routing: Routing,
    /// Width inside an expert.
    pub(crate) width: usize,
    pub(crate) names: ExpertNames,
    /// What an expert computes; a gated MLP of the config's own activation if it does not say.
    pub(crate) kind: Option<ExpertKind>,
    /// Whether the router has a bias.
    pub(crate) router_bias: bool,
    /// What corrects its scores.
    pub(crate) correction: Correction,
}

impl Default for Sparse {
    fn default() -> Self {
        Self {
            count: 0,
            routing: Routing::softmax(0),
            width: 0,
            names: ExpertNames::USUAL,
            kind: None,
            router_bias: false,
            correction: Correction::None,
        }
    }
}

impl Sparse {
    pub(crate) fn experts(&self, config: &DecoderConfig) -> Experts {
        Experts {
            count: self.count,
            chosen: self.routing.top_k,
            hidden_size: config.hidden_size,
            intermediate_size: self.width,
            kind: self.kind.unwrap_or(ExpertKind::Gated(config.hidden_act)),
            names: self.names,
        }
    }

    /// The router, its parameters not yet loaded.
    pub(crate) fn block<B: Backend>(&self, config: &DecoderConfig, device: &B::Device) -> Moe<B> {
        let shape = [self.count, config.hidden_size];
        let router = Router::new(shape, self.router_bias, self.correction, device);
        Moe::new(router, self.routing.clone())
    }

    /// The same in the place of an MLP.
    pub(crate) fn feed_forward<B: Backend>(&self, config: &DecoderConfig, device: &B::Device) -> FeedForward<B> {
        FeedForward::Moe(self.block(config, device))
    }

    /// The same beside an MLP of the width `shared` that works on all tokens, if that is wider than nothing.
    pub(crate) fn feed_forward_beside<B: Backend>(
        &self,
        shared: usize,
        config: &DecoderConfig,
        device: &B::Device,
    ) -> FeedForward<B> {
        let block = self.block(config, device);
        FeedForward::Moe(match shared {
            0 => block,
            shared => block.with_shared(GatedMlp::with_width(config, shared, device), None),
        })
    }
}

/// An MLP in the place where other layers have experts.
pub(crate) fn dense<B: Backend>(config: &DecoderConfig, device: &B::Device) -> FeedForward<B> {
    FeedForward::Dense(GatedMlp::new(config, device))
}
