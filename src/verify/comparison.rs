use leveret_models::Backend;
use serde::Serialize;

use super::odds::{Odds, divergence};
use crate::error::{Error, Result};
use crate::model::Model;

/// How near a model is to another on a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// Runs of tokens that were computed on their own.
    pub windows: usize,
    /// Tokens of all of them.
    pub tokens: usize,
    /// The model's perplexity: over all tokens of a window but its first.
    pub perplexity: f64,
    /// The other model's.
    pub reference_perplexity: f64,
    /// Mean over all positions of the Kullback-Leibler divergence from the other's distributions of the next token to
    /// the model's.
    pub mean_kl: f64,
    /// The largest of them.
    pub max_kl: f64,
    /// Positions whose likeliest token is the same, as a fraction.
    pub same_argmax: f64,
}

impl<B: Backend> Model<B> {
    /// Compares with `other` on a text, which is cut into windows of so many tokens; a last one of a single token is left
    /// out.
    ///
    /// Both run window by window, so that no more logits are kept than one window has.
    pub fn compare<C: Backend>(&mut self, other: &mut Model<C>, text: &str, window: usize) -> Result<Comparison> {
        let tokens = self.tokens_for(other, text)?;
        let max_positions = self.dims().max_positions.min(other.dims().max_positions);
        if window.min(tokens.len()) > max_positions {
            return Err(Error::Window { window, max_positions });
        }
        let windows = || tokens.chunks(window.max(2)).filter(|window| window.len() > 1);
        let count: usize = windows().map(<[u32]>::len).sum();
        if count == 0 {
            return Err(Error::ShortText { tokens: tokens.len() });
        }
        let (mut surprise, mut kl, mut max_kl, mut same) = ([0.0; 2], 0.0, 0f64, 0usize);
        for window in windows() {
            let (got, want) = (self.logits(window, &[])?, other.logits(window, &[])?);
            let next = window[1..].iter().copied().map(Some).chain([None]);
            for ((got, want), next) in got.iter().zip(&want).zip(next) {
                let [got, want] = [got, want].map(|logits| Odds::new(logits));
                let divergence = divergence(&want, &got);
                kl += divergence;
                max_kl = max_kl.max(divergence);
                same += usize::from(got.likeliest() == want.likeliest());
                if let Some(token) = next {
                    surprise[0] += got.surprise(token);
                    surprise[1] += want.surprise(token);
                }
            }
        }
        let predicted = (count - windows().count()) as f64;
        let [perplexity, reference_perplexity] = surprise.map(|sum| (sum / predicted).exp());
        Ok(Comparison {
            windows: windows().count(),
            tokens: count,
            perplexity,
            reference_perplexity,
            mean_kl: kl / count as f64,
            max_kl,
            same_argmax: same as f64 / count as f64,
        })
    }

    /// The tokens of a text, on which both models have to agree.
    fn tokens_for<C: Backend>(&self, other: &Model<C>, text: &str) -> Result<Vec<u32>> {
        let disagree = |what, numbers| {
            let (path, other) = (self.dir().to_owned(), other.dir().to_owned());
            Error::Incomparable { path, other, what, numbers }
        };
        let sizes = [self.dims().vocab_size, other.dims().vocab_size];
        if sizes[0] != sizes[1] {
            return Err(disagree("vocab_size", Some(sizes)));
        }
        let encode = |tokenizer: &crate::Tokenizer| tokenizer.encode(text, true);
        match (self.tokenizer().map(encode).transpose()?, other.tokenizer().map(encode).transpose()?) {
            (Some(tokens), Some(others)) if tokens != others => Err(disagree("tokens of the text", None)),
            (Some(tokens), _) | (None, Some(tokens)) => Ok(tokens),
            (None, None) => Err(Error::NoTokenizer { path: self.dir().to_owned() }),
        }
    }
}
