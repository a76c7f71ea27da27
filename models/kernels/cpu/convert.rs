use super::level::Level;
use super::numbers::{Numbers, NumbersMut};
use super::simd::Simd;
use super::team;
use super::work::Work;

/// Numbers that a thread takes at a time.
const RUN: usize = 1 << 14;

/// Numbers in f32, from the one at `start` on.
pub(crate) fn widen(from: Numbers, start: usize, len: usize) -> Vec<f32> {
    let mut to = vec![0.0; len];
    let level = Level::best();
    let run = |(i, to): (usize, &mut [f32])| level.run(Widen { from, start: start + i * RUN, to });
    match len {
        ..=RUN => run((0, &mut to)),
        _ => team::each(to.chunks_mut(RUN).enumerate(), run),
    }
    to
}

/// Rounds numbers to those of another type.
pub(crate) fn narrow(from: &[f32], to: NumbersMut) {
    let level = Level::best();
    match from.len() {
        ..=RUN => level.run(Narrow { from, to }),
        _ => team::each(to.chunks(RUN).into_iter().zip(from.chunks(RUN)), |(to, from)| level.run(Narrow { from, to })),
    }
}

struct Widen<'a, 'y> {
    from: Numbers<'a>,
    start: usize,
    to: &'y mut [f32],
}

impl Work for Widen<'_, '_> {
    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        self.from.widen(self.start, self.to);
    }
}

struct Narrow<'a, 'y> {
    from: &'a [f32],
    to: NumbersMut<'y>,
}

impl Work for Narrow<'_, '_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, _simd: S) {
        self.to.narrow(0, self.from);
    }
}
