use super::UnitSize;

/// Memory for the experts of some layers, of which those stay that were used last.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ExpertPool {
    /// All that there are.
    pub(super) all: usize,
    /// Bytes of one slot: that of the largest.
    pub(super) slot: u64,
    /// Bytes of one in host memory.
    pub(super) host: u64,
    tensors: u64,
}

/// Experts that are read while others are computed with, where one slot is not all that there is.
const AHEAD: usize = 2;

impl ExpertPool {
    pub(super) fn of(units: &[UnitSize]) -> Self {
        let largest = |size: fn(&UnitSize) -> u64| {
            units.iter().filter(|unit| unit.experts.count > 0).map(size).max().unwrap_or(0)
        };
        Self {
            all: units.iter().map(|unit| unit.experts.count).sum(),
            slot: largest(|unit| unit.experts.slot),
            host: largest(|unit| unit.experts.host),
            tensors: largest(|unit| unit.experts.tensors),
        }
    }

    /// So many if there are as many.
    pub(super) fn at_most(&self, kept: usize) -> usize {
        kept.min(self.all)
    }

    /// Slots that experts pass through where tensors are made of a slot's bytes; none where they stay in it.
    pub(super) fn passing(&self, kept: usize) -> usize {
        if self.tensors == 0 { 0 } else { kept.min(AHEAD) }
    }

    /// Bytes of a pool that keeps so many.
    pub(super) fn bytes(&self, kept: usize) -> u64 {
        let kept_bytes = |bytes: u64| bytes.saturating_mul(kept as u64);
        match self.tensors {
            0 => kept_bytes(self.slot),
            // Backends that copy weights to make tensors of them copy them once more to multiply.
            tensors => {
                let passing = (self.passing(kept) as u64).saturating_mul(self.slot);
                let once_more = if kept > 0 { tensors } else { 0 };
                kept_bytes(tensors).saturating_add(passing).saturating_add(once_more)
            }
        }
    }

    /// How many a pool keeps in so many bytes.
    pub(super) fn fitting(&self, bytes: u64) -> usize {
        let (mut fits, mut too_many) = (0, self.all + 1);
        while too_many - fits > 1 {
            let middle = fits + (too_many - fits) / 2;
            if self.bytes(middle) <= bytes { fits = middle } else { too_many = middle }
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ExpertSizes;

    #[test]
    fn what_fits_fits_and_one_more_does_not() {
        for tensors in [0, 70] {
            let experts = ExpertSizes { count: 5, chosen: 2, slot: 100, tensors, host: 110 };
            let pool = ExpertPool::of(&[UnitSize { experts, ..UnitSize::default() }; 3]);
            for bytes in [0, 99, 100, 239, 240, 500, 5000] {
                let kept = pool.fitting(bytes);
                assert!(kept == 0 || pool.bytes(kept) <= bytes, "{tensors} {bytes} {kept}");
                assert!(kept == 15 || pool.bytes(kept + 1) > bytes, "{tensors} {bytes} {kept}");
            }
        }
        assert_eq!(ExpertPool::of(&[UnitSize::default()]).fitting(1000), 0);
    }
}
