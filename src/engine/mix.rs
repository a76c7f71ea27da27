use std::collections::BTreeSet;

use leveret_models::Backend;
use leveret_models::layers::{Mixture, Routed};

use super::stage::{Model, Stage};
use crate::error::Result;
use crate::stats::PassStats;

impl<B: Backend> Stage<B> {
    /// Brings the experts of a layer that any chunk of a pass chose, each once; gives what they make, chunk by chunk.
    pub(super) fn mix(
        &mut self,
        layer: usize,
        routed: Vec<Option<Routed<B>>>,
        model: &Model<'_, B>,
        stats: &mut PassStats,
    ) -> Result<Vec<Option<Mixture<B>>>> {
        let wanted: BTreeSet<_> = routed.iter().flatten().flat_map(Routed::experts).collect();
        let wanted: Vec<_> = wanted.into_iter().collect();
        let mut mixtures: Vec<_> = routed.into_iter().map(|routed| routed.map(Mixture::new)).collect();
        if !wanted.is_empty() {
            self.call_experts(model, (layer, &wanted), stats, |index, expert| {
                mixtures.iter_mut().flatten().for_each(|mixture| mixture.add(index, expert));
            })?;
        }
        Ok(mixtures)
    }
}
