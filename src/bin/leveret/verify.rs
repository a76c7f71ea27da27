use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use leveret::{Backend, RunDtype, Verdict};

use crate::device::Task;
use crate::load::How;

/// Compares a model's logits and tokens with those of another implementation, in float32 unless --dtype says otherwise.
#[derive(Debug, Args)]
pub struct Verify {
    /// Directory of the checkpoint.
    model: PathBuf,
    /// Safetensors file with the other's answers [default: reference.safetensors in MODEL].
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// Largest difference of two logits that counts as agreement.
    #[arg(long, default_value_t = 1e-3)]
    tolerance: f32,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    how: How,
}

impl Verify {
    pub fn run(mut self) -> Result<()> {
        // References are in f32: a comparison in less says something about the dtype and not about the model.
        if self.how.dtype == RunDtype::Auto {
            self.how.dtype = RunDtype::Float32;
        }
        self.how.device.clone().run(self)
    }
}

impl Task for Verify {
    fn run<B: Backend>(self, devices: Vec<B::Device>) -> Result<()> {
        let reference = self.reference.unwrap_or_else(|| self.model.join("reference.safetensors"));
        let report = self.how.load::<B>(&self.model, devices)?.verify(&reference)?;
        let mut out = std::io::stdout();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        } else {
            writeln!(out, "prompt: {}", describe(&report.prompt))?;
            for (name, reply) in [("reply", report.greedy), ("batch", report.batch)] {
                let Some(reply) = reply else { continue };
                let tokens = if reply.same_tokens { "tokens equal" } else { "tokens DIFFER" };
                writeln!(out, "{name}:  {}, {tokens}", describe(&reply.logits))?;
            }
        }
        let tokens = [report.greedy, report.batch].iter().flatten().all(|reply| reply.same_tokens);
        match (report.agrees(self.tolerance), tokens) {
            (true, _) => Ok(()),
            (false, true) => bail!("{}: logits differ by more than {:e}", reference.display(), self.tolerance),
            (false, false) => bail!("{}: tokens differ", reference.display()),
        }
    }
}

fn describe(verdict: &Verdict) -> String {
    format!(
        "largest difference {:.2e}, smallest cosine {:.6}, same likeliest token {:.1} %",
        verdict.max_abs_diff,
        verdict.min_cosine,
        100.0 * verdict.same_argmax
    )
}
