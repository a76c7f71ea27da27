/// A distribution of the next token, as logarithms of probabilities.
#[derive(Debug)]
pub(super) struct Odds(Vec<f64>);

impl Odds {
    /// Of the logits of one position.
    pub(super) fn new(logits: &[f32]) -> Self {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let centred = |logit: &f32| f64::from(*logit) - f64::from(largest);
        let sum: f64 = logits.iter().map(|logit| centred(logit).exp()).sum();
        Self(logits.iter().map(|logit| centred(logit) - sum.ln()).collect())
    }

    /// The token of the largest probability.
    pub(super) fn likeliest(&self) -> Option<usize> {
        (0..self.0.len()).max_by(|a, b| self.0[*a].total_cmp(&self.0[*b]))
    }

    /// How surprising a token is: the negative logarithm of its probability.
    pub(super) fn surprise(&self, token: u32) -> f64 {
        -self.0[token as usize]
    }
}

/// The Kullback-Leibler divergence from `p` to `q`; infinite where one of them is no distribution.
pub(super) fn divergence(p: &Odds, q: &Odds) -> f64 {
    let term = |(p, q): (&f64, &f64)| if *p == f64::NEG_INFINITY { 0.0 } else { p.exp() * (p - q) };
    let sum: f64 = p.0.iter().zip(&q.0).map(term).sum();
    if sum.is_nan() { f64::INFINITY } else { sum.max(0.0) }
}

/// The perplexity over all tokens but the first, from the logits after each; none if there is only one.
pub(super) fn perplexity<'a>(tokens: &[u32], logits: impl IntoIterator<Item = &'a [f32]>) -> Option<f64> {
    let next = tokens.get(1..)?;
    let sum: f64 = next.iter().zip(logits).map(|(token, logits)| Odds::new(logits).surprise(*token)).sum();
    (!next.is_empty()).then(|| (sum / next.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_compared_as_they_should() {
        // Probabilities 1/4 and 3/4, and the same the other way round.
        let (p, q) = (Odds::new(&[0.0, 3f32.ln()]), Odds::new(&[1.0 + 3f32.ln(), 1.0]));
        assert_eq!((p.likeliest(), q.likeliest()), (Some(1), Some(0)));
        assert!((divergence(&p, &q) - 0.5 * 3f64.ln()).abs() < 1e-7);
        assert_eq!(divergence(&p, &p), 0.0);
        assert!((p.surprise(0) - 4f64.ln()).abs() < 1e-7);
        assert_eq!(divergence(&p, &Odds::new(&[f32::NAN, 0.0])), f64::INFINITY);
    }

    #[test]
    fn perplexity_of_even_odds_is_their_number() {
        let logits = [[5f32; 8]; 3];
        let perplexity = |tokens: &[u32]| perplexity(tokens, logits.iter().map(<[f32; 8]>::as_slice));
        assert!((perplexity(&[1, 2, 3]).unwrap() - 8.0).abs() < 1e-12);
        assert_eq!(perplexity(&[1]), None);
    }
}
