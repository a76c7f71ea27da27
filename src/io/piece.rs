use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

/// A part of a larger memory, to be filled by one thread while others fill the rest.
///
/// The memory comes back when all its pieces are [joined](Self::join).
pub(crate) struct Piece<M> {
    whole: Arc<Whole<M>>,
    range: Range<usize>,
}

/// Memory that is only reached through its pieces.
struct Whole<M> {
    memory: M,
    start: *mut u8,
}

// SAFETY: `start` points into `memory`, which may go to other threads; it is only read through pieces, whose ranges do
// not overlap.
unsafe impl<M: Send> Send for Whole<M> {}
// SAFETY: as above: threads that share a `Whole` reach different bytes of it.
unsafe impl<M: Send> Sync for Whole<M> {}

impl<M: DerefMut<Target = [u8]>> Piece<M> {
    /// Cuts `memory` at `ranges`, which ascend and do not overlap.
    pub(crate) fn split(memory: M, ranges: impl IntoIterator<Item = Range<usize>>) -> Vec<Self> {
        let mut whole = Arc::new(Whole { memory, start: std::ptr::null_mut() });
        let Whole { memory, start } = Arc::get_mut(&mut whole).expect("nobody else has it yet");
        let len = memory.len();
        *start = memory.as_mut_ptr();
        let mut end = 0;
        let piece = |range: Range<usize>| {
            assert!(end <= range.start && range.start <= range.end && range.end <= len, "pieces do not overlap");
            end = range.end;
            Self { whole: whole.clone(), range }
        };
        ranges.into_iter().map(piece).collect()
    }

    /// The first `len` bytes of `memory` as its only piece.
    pub(crate) fn first(memory: M, len: usize) -> Self {
        Self::split(memory, std::iter::once(0..len)).remove(0)
    }

    /// The whole memory again, if these are all its pieces.
    pub(crate) fn join(mut pieces: Vec<Self>) -> Option<M> {
        let last = pieces.pop()?;
        drop(pieces);
        Arc::into_inner(last.whole).map(|whole| whole.memory)
    }
}

impl<M> Deref for Piece<M> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `split` has checked that the range lies in the memory and overlaps no other piece's; the memory lives
        // in `whole` and does not move as long as there are pieces.
        unsafe { std::slice::from_raw_parts(self.whole.start.add(self.range.start), self.range.len()) }
    }
}

impl<M> DerefMut for Piece<M> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; this piece is borrowed mutably, so nobody else reaches its bytes.
        unsafe { std::slice::from_raw_parts_mut(self.whole.start.add(self.range.start), self.range.len()) }
    }
}

impl<M> AsRef<[u8]> for Piece<M> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<M> fmt::Debug for Piece<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Piece").field("range", &self.range).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_filled_apart_and_joined() {
        let mut pieces = Piece::split(vec![0u8; 10], [0..3, 3..3, 5..10]);
        std::thread::scope(|scope| {
            for (i, piece) in pieces.iter_mut().enumerate() {
                scope.spawn(move || piece.fill(i as u8 + 1));
            }
        });
        let last = pieces.pop().unwrap();
        assert!(Piece::join(pieces).is_none(), "one piece is still out");
        let again = Piece::split(vec![0u8; 4], std::iter::once(0..4));
        assert_eq!(Piece::join(again).unwrap(), [0; 4]);
        assert_eq!(&last[..], [3; 5]);
        assert_eq!(Piece::join(vec![last]).unwrap(), [1, 1, 1, 0, 0, 3, 3, 3, 3, 3]);
    }

    #[test]
    #[should_panic(expected = "pieces do not overlap")]
    fn overlapping_pieces_are_refused() {
        let _ = Piece::split(vec![0u8; 10], [0..6, 5..10]);
    }
}
