use half::{bf16, f16};

use super::portable::widen_f16;

/// Numbers as they are stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Numbers<'a> {
    /// In f32.
    F32(&'a [f32]),
    /// In bf16.
    Bf16(&'a [bf16]),
    /// In f16.
    F16(&'a [f16]),
}

/// Where numbers are to be stored.
#[derive(Debug)]
pub(crate) enum NumbersMut<'a> {
    /// In f32.
    F32(&'a mut [f32]),
    /// In bf16.
    Bf16(&'a mut [bf16]),
    /// In f16.
    F16(&'a mut [f16]),
}

impl Numbers<'_> {
    /// Writes the numbers from the one at `at` on.
    #[inline(always)]
    pub(super) fn widen(self, at: usize, to: &mut [f32]) {
        match self {
            Self::F32(from) => to.copy_from_slice(&from[at..][..to.len()]),
            Self::Bf16(from) => {
                each(to, &from[at..][..to.len()], |from| f32::from_bits(u32::from(from.to_bits()) << 16))
            }
            Self::F16(from) => each(to, &from[at..][..to.len()], |from| widen_f16(from.to_bits())),
        }
    }
}

impl<'a> NumbersMut<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::F32(to) => to.len(),
            Self::Bf16(to) => to.len(),
            Self::F16(to) => to.len(),
        }
    }

    /// Cuts them in runs of `len`.
    pub(super) fn chunks(self, len: usize) -> Vec<Self> {
        match self {
            Self::F32(to) => to.chunks_mut(len).map(Self::F32).collect(),
            Self::Bf16(to) => to.chunks_mut(len).map(Self::Bf16).collect(),
            Self::F16(to) => to.chunks_mut(len).map(Self::F16).collect(),
        }
    }

    /// Rounds numbers to those from the one at `at` on.
    #[inline(always)]
    pub(super) fn narrow(&mut self, at: usize, from: &[f32]) {
        match self {
            Self::F32(to) => to[at..][..from.len()].copy_from_slice(from),
            Self::Bf16(to) => {
                each(&mut to[at..][..from.len()], from, |from| bf16::from_bits((rounded(*from) >> 16) as u16))
            }
            Self::F16(to) => each(&mut to[at..][..from.len()], from, |from| f16::from_f32(*from)),
        }
    }
}

/// Rounds a number to bf16, whose bits are the upper ones.
#[inline(always)]
pub(super) fn rounded(number: f32) -> u32 {
    let bits = number.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // A rounded NaN might be none.
    if bits & 0x7fff_ffff > 0x7f80_0000 { bits | 0x40_0000 } else { nearest }
}

#[inline(always)]
fn each<T, U>(to: &mut [T], from: &[U], of: impl Fn(&U) -> T) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = of(from));
}
