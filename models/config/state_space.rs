//! What families with Mamba-2 mixers read from their `config.json`, each under names of its own.

use serde::Deserialize;

use super::{ConfigError, check_sizes, unsupported};
use crate::layers::Mamba2MixerConfig;

/// A mixer, and what the config calls its sizes.
#[derive(Debug, Clone)]
pub(crate) struct StateSpace {
    pub(crate) config: Mamba2MixerConfig,
    /// How much wider than the hidden states it is.
    pub(crate) expand: f64,
    /// The fields of heads, of a head's numbers, of the state's, of groups, of the convolution's columns, of `expand`.
    pub(crate) fields: [&'static str; 6],
}

/// A number that may be infinite, which JSON has no word for.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Float {
    /// As JSON has it.
    Number(f64),
    /// As transformers 5 writes one that JSON has not.
    Named {
        /// `Infinity`.
        #[serde(rename = "__float__")]
        name: String,
    },
}

/// A width, or `auto` for the one that follows from others.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Width {
    Of(usize),
    Word(String),
}

impl Width {
    /// The width that is given, or the one that follows; none where the word is another.
    pub(crate) fn or(given: Option<&Self>, follows: usize) -> usize {
        match given {
            Some(Self::Of(width)) => *width,
            Some(Self::Word(word)) if word != "auto" => 0,
            _ => follows,
        }
    }
}

impl StateSpace {
    /// The least and the most that a column counts; no limit if there is none.
    pub(crate) fn limit(limit: Option<[Float; 2]>) -> [f64; 2] {
        let number = |float| match float {
            Float::Number(number) => number,
            Float::Named { name } => name.parse().unwrap_or(f64::NAN),
        };
        limit.map_or([0.0, f64::INFINITY], |limit| limit.map(number))
    }

    /// Refuses sizes that do not belong together.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let Mamba2MixerConfig { hidden_size, num_heads, head_dim, state_size, groups, kernel, .. } = self.config;
        let sizes = [num_heads, head_dim, state_size, groups, kernel];
        check_sizes(self.fields.into_iter().zip(sizes))?;
        if !num_heads.is_multiple_of(groups) {
            return Err(unsupported(self.fields[3], groups, format!("a divisor of {} = {num_heads}", self.fields[0])));
        }
        if self.expand * hidden_size as f64 != (num_heads * head_dim) as f64 {
            let expected = format!(
                "{num_heads} · {head_dim} / {hidden_size}, as {}, {} and hidden_size have it",
                self.fields[0], self.fields[1]
            );
            return Err(unsupported(self.fields[5], self.expand, expected));
        }
        let [least, most] = self.config.time_step_limit;
        match least >= 0.0 && least <= most {
            true => Ok(()),
            false => {
                Err(unsupported("time_step_limit", format!("[{least}, {most}]"), "two numbers from 0 on, in order"))
            }
        }
    }
}
