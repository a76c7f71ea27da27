use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use leveret::RunDtype;

use crate::units::whole;

/// Writes a checkpoint of a well-known model's shapes with random weights, to measure with.
#[derive(Debug, Args)]
pub struct Synth {
    /// Directory to write to; made if it is not there.
    out: PathBuf,
    /// Whose shapes: llama-3.2-1b, llama-3.1-8b, llama-3.1-70b, mixtral-8x7b or qwen3-30b-a3b.
    #[arg(long, default_value = "llama-3.2-1b")]
    preset: String,
    /// Layers, if not the preset's.
    #[arg(long, value_name = "N", value_parser = whole::<usize>, allow_negative_numbers = true)]
    num_hidden_layers: Option<usize>,
    /// Vocabulary, if not the preset's.
    #[arg(long, value_name = "N", value_parser = whole::<usize>, allow_negative_numbers = true)]
    vocab_size: Option<usize>,
    /// Dtype of the weights: bfloat16, float16 or float32.
    #[arg(long, default_value = "bfloat16")]
    dtype: RunDtype,
    /// What the weights follow from.
    #[arg(long, default_value_t = 0, value_parser = whole::<u64>, allow_negative_numbers = true)]
    seed: u64,
}

impl Synth {
    pub fn run(self) -> Result<()> {
        let preset = leveret::Synth::preset(&self.preset)?;
        let synth = leveret::Synth {
            num_hidden_layers: self.num_hidden_layers.unwrap_or(preset.num_hidden_layers),
            vocab_size: self.vocab_size.unwrap_or(preset.vocab_size),
            dtype: self.dtype,
            ..preset
        };
        Ok(synth.write(&self.out, self.seed)?)
    }
}
