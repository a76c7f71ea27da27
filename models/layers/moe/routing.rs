use crate::config::{ConfigError, check_sizes, unsupported};

/// How a token chooses among experts by their scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    /// Experts that a token chooses.
    pub top_k: usize,
    /// What becomes of the router's numbers.
    pub scoring: Scoring,
    /// Groups of experts of which only the best are chosen from, if there are any.
    pub groups: Option<Groups>,
    /// How the weights of the chosen are brought to a sum of 1, if they are.
    pub normed: Option<Normed>,
    /// What weights are multiplied by in the end.
    pub scale: f32,
    /// Whether what experts are given is weighed, and not what they make of it.
    pub weighs_input: bool,
}

/// What becomes of the router's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scoring {
    /// The softmax over all experts.
    Softmax,
    /// The sigmoid of each.
    Sigmoid,
    /// The softmax over the chosen alone.
    SoftmaxOfChosen,
    /// Phi-3.5-MoE's: one expert after another, each weighed against those that are close to it.
    SparseMixer {
        /// How far below the best a number is that no longer counts, twice, as a part of it.
        jitter: f32,
    },
}

/// How the weights of the chosen are brought to a sum of 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Normed {
    /// Divided by their sum and a little more.
    Plus(f32),
    /// Divided by their sum, or by this where it is less.
    AtLeast(f32),
}

/// Neighbouring experts that are chosen from together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// Groups of all experts.
    pub count: usize,
    /// Groups that are chosen from.
    pub top_k: usize,
    /// Members whose scores make up that of a group: its best.
    pub best: usize,
}

impl Routing {
    /// The best `top_k` by a softmax over all, their weights as they are.
    pub fn softmax(top_k: usize) -> Self {
        Self { top_k, scoring: Scoring::Softmax, groups: None, normed: None, scale: 1.0, weighs_input: false }
    }

    /// Refuses what cannot be chosen among `experts`; the fields are those of their number and of how many a token chooses.
    pub fn check(&self, experts: usize, [count, chosen]: [&'static str; 2]) -> Result<(), ConfigError> {
        check_sizes([(count, experts)])?;
        if self.top_k == 0 || self.top_k > experts {
            let expected = format!("a positive number up to the number of experts, {experts}");
            return Err(unsupported(chosen, self.top_k, expected));
        }
        let Some(Groups { count, top_k, best }) = self.groups else { return Ok(()) };
        if count == 0 || !experts.is_multiple_of(count) {
            return Err(unsupported("n_group", count, format!("a divisor of the number of experts, {experts}")));
        }
        let members = experts / count;
        if top_k == 0 || top_k > count || top_k * members < self.top_k {
            let expected = format!("so many of {count} groups of {members} that {} can be chosen", self.top_k);
            return Err(unsupported("topk_group", top_k, expected));
        }
        match members < best {
            true => Err(unsupported("n_group", count, format!("groups of at least {best} of {experts} experts"))),
            false => Ok(()),
        }
    }

    /// The experts that one token chooses, best first, each with its weight.
    pub fn choose(&self, logits: &[f32], correction: Option<&[f32]>) -> Vec<(usize, f32)> {
        if let Scoring::SparseMixer { jitter } = self.scoring {
            return sparse_mixer(logits, self.top_k, jitter);
        }
        let scores = match self.scoring {
            Scoring::Softmax => softmax(logits),
            Scoring::Sigmoid => logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
            Scoring::SoftmaxOfChosen | Scoring::SparseMixer { .. } => logits.to_vec(),
        };
        let mut preferred = scores.clone();
        for (score, correction) in preferred.iter_mut().zip(correction.into_iter().flatten()) {
            *score += correction;
        }
        if let Some(groups) = &self.groups {
            groups.close_all_but_the_best(&mut preferred);
        }
        let chosen = best(&preferred, self.top_k);
        let mut weights: Vec<f32> = chosen.iter().map(|expert| scores[*expert]).collect();
        if self.scoring == Scoring::SoftmaxOfChosen {
            weights = softmax(&weights);
        }
        let sum: f32 = weights.iter().sum();
        let divisor = match self.normed {
            Some(Normed::Plus(more)) => sum + more,
            Some(Normed::AtLeast(least)) => sum.max(least),
            None => 1.0,
        };
        chosen.into_iter().zip(weights.into_iter().map(|weight| weight / divisor * self.scale)).collect()
    }
}

impl Groups {
    /// Makes sure that nobody chooses from other groups than the best.
    fn close_all_but_the_best(&self, scores: &mut [f32]) {
        let members = scores.len() / self.count;
        let score = |group: &[f32]| best(group, self.best).into_iter().map(|member| group[member]).sum();
        let of_groups: Vec<f32> = scores.chunks(members).map(score).collect();
        let open = best(&of_groups, self.top_k);
        for (_, group) in scores.chunks_mut(members).enumerate().filter(|(group, _)| !open.contains(group)) {
            group.fill(f32::NEG_INFINITY);
        }
    }
}

/// The indices of the `count` largest numbers, largest first; of equal ones the first.
fn best(numbers: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|a, b| numbers[*b].total_cmp(&numbers[*a]));
    order.truncate(count);
    order
}

fn softmax(numbers: &[f32]) -> Vec<f32> {
    let max = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = numbers.iter().map(|x| (x - max).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// One expert after another: the best that is left, weighed against those of all the others that are near it.
fn sparse_mixer(logits: &[f32], top_k: usize, jitter: f32) -> Vec<(usize, f32)> {
    let mut left = logits.to_vec();
    let choose = |_| {
        let chosen = best(&left, 1)[0];
        let max = left[chosen];
        let far = |x: f32| (max - x) / x.abs().max(max) > 2.0 * jitter;
        let sum: f32 = left.iter().filter(|x| x.is_finite() && !far(**x)).map(|x| (x - max).exp()).sum();
        left[chosen] = f32::NEG_INFINITY;
        (chosen, 1.0 / sum)
    };
    (0..top_k).map(choose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [&str; 2] = ["num_experts", "num_experts_per_tok"];

    fn near(got: &[(usize, f32)], want: &[(usize, f32)]) {
        assert_eq!(got.len(), want.len());
        for ((expert, weight), (expected, of)) in got.iter().zip(want) {
            assert!(expert == expected && (weight - of).abs() < 1e-6, "{got:?} {want:?}");
        }
    }

    const LOGITS: [f32; 6] = [0.0, 2.0, 1.0, -1.0, 2.5, 0.5];

    #[test]
    fn weights_are_those_of_all_or_of_the_chosen() {
        let e = |x: f32| x.exp();
        let all: f32 = LOGITS.iter().copied().map(e).sum();
        near(&Routing::softmax(2).choose(&LOGITS, None), &[(4, e(2.5) / all), (1, e(2.0) / all)]);
        let two = e(2.5) + e(2.0);
        let of_two = [(4, e(2.5) / two), (1, e(2.0) / two)];
        let normed = Routing { normed: Some(Normed::Plus(0.0)), ..Routing::softmax(2) };
        near(&normed.choose(&LOGITS, None), &of_two);
        let of_chosen = Routing { scoring: Scoring::SoftmaxOfChosen, ..Routing::softmax(2) };
        near(&of_chosen.choose(&LOGITS, None), &of_two);
    }

    /// A correction decides who is chosen and not how much it weighs.
    #[test]
    fn corrections_move_the_choice_alone() {
        let routing = Routing { scoring: Scoring::Sigmoid, scale: 2.0, ..Routing::softmax(1) };
        near(&routing.choose(&LOGITS, Some(&[0.0, 0.0, 0.0, 9.0, 0.0, 0.0])), &[(3, 2.0 / (1.0 + 1f32.exp()))]);
    }

    #[test]
    fn only_the_best_groups_are_chosen_from() {
        let chosen = |groups| {
            let routing = Routing { groups: Some(groups), ..Routing::softmax(2) };
            routing.choose(&LOGITS, None).into_iter().map(|(expert, _)| expert).collect::<Vec<_>>()
        };
        // Groups (0, 2), (1, -1), (2.5, 0.5).
        assert_eq!(chosen(Groups { count: 3, top_k: 1, best: 1 }), [4, 5]);
        assert_eq!(chosen(Groups { count: 3, top_k: 2, best: 2 }), [4, 1]);
        assert_eq!(chosen(Groups { count: 2, top_k: 1, best: 2 }), [4, 5]);
    }

    #[test]
    fn impossible_choices_are_refused() {
        let error = |routing: Routing, experts| routing.check(experts, FIELDS).unwrap_err().to_string();
        assert!(error(Routing::softmax(7), 6).contains("`num_experts_per_tok` is 7"));
        assert!(error(Routing::softmax(0), 6).contains("`num_experts_per_tok` is 0"));
        let grouped =
            |count, top_k, best| Routing { groups: Some(Groups { count, top_k, best }), ..Routing::softmax(3) };
        assert!(error(grouped(4, 1, 1), 6).contains("`n_group` is 4"));
        assert!(error(grouped(3, 1, 1), 6).contains("`topk_group` is 1"));
        assert!(error(grouped(6, 6, 2), 6).contains("groups of at least 2"));
        assert!(grouped(3, 2, 2).check(6, FIELDS).is_ok());
    }

    /// Numbers that are none choose somebody; where they came from is found out elsewhere.
    #[test]
    fn nan_chooses_somebody() {
        assert_eq!(Routing::softmax(2).choose(&[f32::NAN; 3], None).len(), 2);
    }
}
