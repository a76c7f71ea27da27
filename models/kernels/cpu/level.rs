use std::fmt;

use super::entry::Entry;
use super::input::{Floats, Pairs};
#[cfg(target_arch = "aarch64")]
use super::neon::Neon;
use super::portable::Portable;
use super::simd::Simd;
use super::work::Work;
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};

/// An instruction set that this CPU has.
#[derive(Clone, Copy)]
pub(crate) struct Level(Set);

#[derive(Clone, Copy)]
enum Set {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

/// An expression for whichever set a level is.
macro_rules! with {
    ($level:expr, $simd:ident => $value:expr) => {
        match $level.0 {
            Set::Portable($simd) => $value,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2($simd) => $value,
            #[cfg(target_arch = "x86_64")]
            Set::Avx512($simd) => $value,
            #[cfg(target_arch = "aarch64")]
            Set::Neon($simd) => $value,
        }
    };
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("portable"))
    }
}

impl Level {
    /// Its name in words, unless it is the portable one.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self.0 {
            Set::Portable(_) => None,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(_) => Some("AVX2 and FMA"),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(simd) if simd.multiplies_tiles() => Some("AVX-512 and AMX"),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(simd) if simd.multiplies_pairs() => Some("AVX-512 with BF16"),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(_) => Some("AVX-512"),
            #[cfg(target_arch = "aarch64")]
            Set::Neon(_) => Some("NEON"),
        }
    }

    /// The widest instruction set of this CPU.
    pub(crate) fn best() -> Self {
        let mut best = Set::Portable(Portable);
        Self::each(|set| best = set);
        Self(best)
    }

    /// Every instruction set of this CPU, the widest last.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self(Set::Portable(Portable))];
        Self::each(|set| all.push(Self(set)));
        all
    }

    /// Hands over the sets beyond the portable one; the standard library remembers what it has found out of the CPU.
    fn each(mut _found: impl FnMut(Set)) {
        #[cfg(target_arch = "x86_64")]
        {
            Avx2::detect().map(Set::Avx2).into_iter().for_each(&mut _found);
            let wide = Avx512::detect();
            let pairs = wide.and_then(Avx512::with_pairs);
            let tiles = pairs.and_then(Avx512::with_tiles);
            wide.into_iter().chain(pairs).chain(tiles).map(Set::Avx512).for_each(&mut _found);
        }
        #[cfg(target_arch = "aarch64")]
        Neon::detect().map(Set::Neon).into_iter().for_each(&mut _found);
    }

    pub(super) fn run(self, work: impl Work) {
        with!(self, simd => simd.run(work))
    }

    /// Does `work` with products of pairs.
    pub(super) fn run_with_pairs(self, work: impl Work) {
        with!(self, simd => simd.run_with_pairs(work))
    }

    /// The numbers of a register.
    pub(super) fn lanes(self) -> usize {
        with!(self, simd => lanes(simd))
    }

    /// Outputs of which products of many rows are made at a time.
    pub(super) fn outputs<E: Entry>(self) -> usize {
        with!(self, simd => simd.outputs::<E>())
    }

    /// Whether the CPU multiplies pairs of bf16.
    pub(super) fn multiplies_pairs(self) -> bool {
        with!(self, simd => simd.multiplies_pairs())
    }

    pub(super) fn shuffle(self, floats: &mut Floats) {
        with!(self, simd => simd.shuffle(floats))
    }

    pub(super) fn shuffle_pairs(self, pairs: &mut Pairs) {
        with!(self, simd => simd.shuffle_pairs(pairs))
    }
}

fn lanes<S: Simd>(_simd: S) -> usize {
    S::LANES
}
