use std::collections::BTreeSet;

use leveret_models::Backend;
use leveret_models::layers::{Mixture, Routed};

use super::pass::Pass;
use super::stage::{Model, Stage};
use crate::error::Result;
use crate::stats::PassStats;

impl<B: Backend> Pass<B> {
    /// Ends a layer: brings the experts that any chunk of the pass chose, each once, and adds what they make of it.
    pub(super) fn mix(
        &mut self,
        layer: usize,
        routed: Vec<Option<Routed<B>>>,
        stage: &mut Stage<B>,
        model: &Model<'_, B>,
        stats: &mut PassStats,
    ) -> Result<()> {
        if routed.is_empty() {
            return Ok(());
        }
        let wanted: BTreeSet<_> = routed.iter().flatten().flat_map(Routed::experts).collect();
        let wanted: Vec<_> = wanted.into_iter().collect();
        let mut mixtures: Vec<_> = routed.into_iter().map(|routed| routed.map(Mixture::new)).collect();
        if !wanted.is_empty() {
            stage.call_experts(model, (layer, &wanted), stats, |index, expert| {
                mixtures.iter_mut().flatten().for_each(|mixture| mixture.add(index, expert));
            })?;
        }
        for (x, mixture) in self.hidden.iter_mut().zip(mixtures) {
            if let Some(mixture) = mixture {
                *x = mixture.onto(x.clone());
            }
        }
        self.marks.put(&self.hidden);
        Ok(())
    }
}
