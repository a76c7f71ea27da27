use std::cmp::Ordering;

use super::Sampling;

/// A token and its share of the probability.
pub(super) type Candidate = (u32, f32);

/// Tokens and their probabilities, likeliest first; sorted as far as they are asked for, since most of a large
/// vocabulary never is.
pub(super) struct Ranked {
    candidates: Vec<Candidate>,
    /// How many of the first are in their places.
    sorted: usize,
}

impl Ranked {
    /// The `top_k` likeliest tokens, or all.
    pub(super) fn new(logits: &[f32], sampling: &Sampling) -> Self {
        let mut candidates: Vec<Candidate> = (0..).zip(logits.iter().copied()).collect();
        if (1..candidates.len()).contains(&sampling.top_k) {
            candidates.select_nth_unstable_by(sampling.top_k - 1, likelier);
            candidates.truncate(sampling.top_k);
        }
        let max = candidates.iter().map(|(_, logit)| *logit).fold(f32::NEG_INFINITY, f32::max);
        candidates.iter_mut().for_each(|(_, logit)| *logit = ((*logit - max) / sampling.temperature).exp());
        let total: f32 = candidates.iter().map(|(_, p)| p).sum();
        candidates.iter_mut().for_each(|(_, p)| *p /= total);
        Self { candidates, sorted: 0 }
    }

    /// How many of the first tokens the filters leave, one at least, and the sum of their probabilities.
    pub(super) fn kept(&mut self, sampling: &Sampling) -> (usize, f32) {
        let len = self.candidates.len();
        if sampling.top_p >= 1.0 && sampling.min_p <= 0.0 {
            // All; what rounding leaves goes to the likeliest.
            return (len, 1.0);
        }
        let least = self.get(0).1 * sampling.min_p;
        let mut sum = 0.0;
        for place in 0..len {
            let (_, p) = self.get(place);
            if p < least {
                return (place, sum);
            }
            sum += p;
            if sum >= sampling.top_p {
                return (place + 1, sum);
            }
        }
        (len, sum)
    }

    /// The token at a place.
    pub(super) fn get(&mut self, place: usize) -> Candidate {
        if place >= self.sorted {
            let (rest, more) = (&mut self.candidates[self.sorted..], (place + 1).max(64));
            if more < rest.len() {
                rest.select_nth_unstable_by(more, likelier);
            }
            let more = more.min(rest.len());
            rest[..more].sort_unstable_by(likelier);
            self.sorted += more;
        }
        self.candidates[place]
    }
}

/// The order of tokens by logits or probabilities: the greatest first, and among equals the first.
pub(super) fn likelier(a: &Candidate, b: &Candidate) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, -1.0, 2.5];

    /// The tokens that the filters leave, likeliest first.
    fn candidates(logits: &[f32], sampling: &Sampling) -> Vec<Candidate> {
        let mut ranked = Ranked::new(logits, sampling);
        let (kept, _) = ranked.kept(sampling);
        (0..kept).map(|place| ranked.get(place)).collect()
    }

    fn ids(sampling: Sampling) -> Vec<u32> {
        candidates(&LOGITS, &Sampling { temperature: 1.0, ..sampling }).iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn filters_keep_what_they_say() {
        let all = Sampling::default();
        assert_eq!(ids(all), [1, 4, 2, 0, 3]);
        assert_eq!(ids(Sampling { top_k: 2, ..all }), [1, 4]);
        // Probabilities are 0.46, 0.28, 0.17, 0.06, 0.01.
        assert_eq!(ids(Sampling { top_p: 0.5, ..all }), [1, 4]);
        assert_eq!(ids(Sampling { min_p: 0.3, ..all }), [1, 4, 2]);
    }

    /// The same by sorting all.
    fn filtered(logits: &[f32], sampling: &Sampling) -> Vec<u32> {
        let mut all: Vec<Candidate> = (0..).zip(logits.iter().copied()).collect();
        all.sort_by(likelier);
        all.truncate(if sampling.top_k == 0 { all.len() } else { sampling.top_k });
        let weight = |logit: f32| ((logit - all[0].1) / sampling.temperature).exp();
        let total: f32 = all.iter().map(|(_, logit)| weight(*logit)).sum();
        let mut sum = 0.0;
        let mut left = Vec::new();
        for (id, p) in all.iter().map(|(id, logit)| (*id, weight(*logit) / total)) {
            if p < sampling.min_p / total || sum >= sampling.top_p {
                break;
            }
            sum += p;
            left.push(id);
        }
        left
    }

    proptest! {
        /// Steps are large beside what the order of sums changes, and some are equal.
        #[test]
        fn no_more_is_sorted_than_is_asked_for_and_nothing_else_is_left(
            steps in prop::collection::vec(0i32..40, 1..300), top_k in 0usize..350, top_p in 0.01f32..=1.0,
            min_p in 0.0f32..=1.0,
        ) {
            let logits: Vec<_> = steps.iter().map(|step| *step as f32 / 4.0).collect();
            let sampling = Sampling { temperature: 1.0, top_k, top_p, min_p, ..Sampling::default() };
            let got: Vec<_> = candidates(&logits, &sampling).iter().map(|(id, _)| *id).collect();
            let want = filtered(&logits, &sampling);
            // At the edge of `top_p` the last bits of a sum decide.
            let common = got.len().min(want.len());
            prop_assert_eq!(&got[..common], &want[..common]);
            prop_assert!(got.len().abs_diff(want.len()) <= 1, "{got:?} {want:?}");
        }

        #[test]
        fn something_is_always_left(
            logits in prop::collection::vec(-80.0f32..80.0, 1..300), temperature in 0.01f32..5.0,
            top_k in 0usize..350, top_p in 0.001f32..=1.0, min_p in 0.0f32..=1.0,
        ) {
            let sampling = Sampling { temperature, top_k, top_p, min_p, ..Sampling::default() };
            prop_assert!(!candidates(&logits, &sampling).is_empty());
            let whole = candidates(&logits, &Sampling { temperature, ..Sampling::default() });
            prop_assert!((whole.iter().map(|(_, p)| p).sum::<f32>() - 1.0).abs() < 1e-5);
            prop_assert!(whole.is_sorted_by(|a, b| likelier(a, b).is_lt()));
        }
    }
}
