use super::level::Level;
use super::norm::normalise;
use super::numbers::NumbersMut;
use super::simd::Simd;
use super::team;
use super::view::View;
use super::work::Work;

/// Numbers that one thread moves faster than several.
const FEW: usize = 1 << 14;

/// Heads on their way to where attention reads them: normed and rotated where that is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotation<'a> {
    /// The heads.
    pub(crate) x: View<'a>,
    /// A weight `[head_dim]` and an epsilon.
    pub(crate) norm: Option<(&'a [f32], f32)>,
    /// Cosines and sines, `[batch, rows, head_dim / 2]` each.
    pub(crate) angles: Option<[&'a [f32]; 2]>,
}

impl Rotation<'_> {
    /// Writes the heads over the rows from `first` on of `to`, `[batch, heads, .., head_dim]`.
    pub(crate) fn write(self, to: NumbersMut, first: usize) {
        let [batch, heads, rows, head_dim] = self.x.shape;
        let level = Level::best();
        let each = to.len() / (batch * heads).max(1);
        let work = to.chunks(each.max(1)).into_iter().enumerate();
        let run = |(i, to)| level.run(Head { of: self, at: [i / heads, i % heads], to, first });
        match batch * heads * rows * head_dim {
            ..=FEW => work.for_each(run),
            _ => team::each(work, run),
        }
    }
}

/// One head of one sequence.
struct Head<'a, 'y> {
    of: Rotation<'a>,
    at: [usize; 2],
    to: NumbersMut<'y>,
    first: usize,
}

impl Work for Head<'_, '_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, _simd: S) {
        let [_, _, rows, head_dim] = self.of.x.shape;
        let [sequence, head] = self.at;
        let mut x = vec![0.0; head_dim];
        for row in 0..rows {
            self.of.x.row([sequence, head, row], &mut x);
            if let Some((weight, eps)) = self.of.norm {
                normalise(&mut x, weight, eps);
            }
            if let Some(angles) = self.of.angles {
                let half = head_dim / 2;
                let [cos, sin] = angles.map(|angles| &angles[(sequence * rows + row) * half..][..half]);
                let (a, b) = x.split_at_mut(half);
                for ((a, b), (cos, sin)) in a.iter_mut().zip(b).zip(cos.iter().zip(sin)) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
            self.to.narrow((self.first + row) * head_dim, &x);
        }
    }
}
