use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::Args;
use leveret::{Backend, Comparison, Report, RunDtype, Verdict};

use crate::device::Task;
use crate::load::How;

/// Compares a model's logits and tokens with those of another implementation, or its predictions of a text with those of
/// another model; in float32 unless --dtype says otherwise.
#[derive(Debug, Args)]
pub struct Verify {
    /// Directory of the checkpoint, or a model's name on the Hugging Face hub, as org/name[@revision]; a directory that
    /// exists wins.
    model: PathBuf,
    /// Safetensors file with the other's answers [default: reference.safetensors in MODEL].
    #[arg(long, value_name = "FILE", conflicts_with = "against")]
    reference: Option<PathBuf>,
    /// Largest difference of two logits that counts as agreement.
    #[arg(long, default_value_t = 1e-3, conflicts_with = "against", allow_negative_numbers = true)]
    tolerance: f32,
    /// Another checkpoint or model to compare with, such as the one that MODEL was packed from: prints the perplexity
    /// of both on --text and the divergence between them.
    #[arg(long, value_name = "MODEL", requires = "text")]
    against: Option<PathBuf>,
    /// Text to compare on.
    #[arg(long, value_name = "FILE", requires = "against")]
    text: Option<PathBuf>,
    /// Tokens of the text that are computed together.
    #[arg(long, value_name = "N", default_value_t = 160, requires = "against", value_parser = window, allow_negative_numbers = true)]
    window: usize,
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
        self.model = self.how.hub.dir(&self.model)?;
        self.against = self.against.map(|model| self.how.hub.dir(&model)).transpose()?;
        self.how.device.clone().run(self)
    }
}

impl Task for Verify {
    fn run<B: Backend>(mut self, devices: Vec<B::Device>) -> Result<()> {
        let mut out = std::io::stdout();
        if let (Some(other), Some(path)) = (&self.against, &self.text) {
            let text =
                std::fs::read_to_string(path).map_err(|error| leveret::Error::Io { path: path.clone(), error })?;
            self.how.models = 2;
            let mut model = self.how.load::<B>(&self.model, devices.clone())?;
            let mut other = self.how.load::<B>(other, devices)?;
            let comparison = model.compare(&mut other, &text, self.window)?;
            match self.json {
                true => writeln!(out, "{}", serde_json::to_string_pretty(&comparison)?)?,
                false => write!(out, "{}", lines(&comparison))?,
            }
            ensure!(
                comparison.mean_kl.is_finite(),
                "the divergence is infinite: one model excludes what the other says"
            );
            return Ok(());
        }
        let reference = self.reference.unwrap_or_else(|| self.model.join("reference.safetensors"));
        let report = self.how.load::<B>(&self.model, devices)?.verify(&reference)?;
        match self.json {
            true => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
            false => print(&report, &mut out)?,
        }
        judge(&report, self.tolerance, &reference)
    }
}

fn print(report: &Report, out: &mut impl Write) -> Result<()> {
    writeln!(out, "prompt: {}", describe(&report.prompt))?;
    if let (Some(perplexity), Some(reference)) = (report.perplexity, report.reference_perplexity) {
        let kl = report.prompt.mean_kl;
        writeln!(out, "        perplexity {perplexity:.4}, reference {reference:.4}, mean KL {kl:.2e}")?;
    }
    for (name, reply) in [("reply", report.greedy), ("batch", report.batch)] {
        let Some(reply) = reply else { continue };
        let tokens = if reply.same_tokens { "tokens equal" } else { "tokens DIFFER" };
        writeln!(out, "{name}:  {}, {tokens}", describe(&reply.logits))?;
    }
    Ok(())
}

fn judge(report: &Report, tolerance: f32, reference: &Path) -> Result<()> {
    let tokens = [report.greedy, report.batch].iter().flatten().all(|reply| reply.same_tokens);
    match (report.agrees(tolerance), tokens) {
        (true, _) => Ok(()),
        (false, true) => bail!("{}: logits differ by more than {tolerance:e}", reference.display()),
        (false, false) => bail!("{}: tokens differ", reference.display()),
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

fn lines(comparison: &Comparison) -> String {
    let Comparison { windows, tokens, perplexity, reference_perplexity, mean_kl, max_kl, same_argmax, .. } = comparison;
    format!(
        "text:       {tokens} tokens in {windows} windows\nperplexity: {perplexity:.4}, of the other \
         {reference_perplexity:.4}\ndivergence: mean KL {mean_kl:.6}, largest {max_kl:.4}, same likeliest token {:.1} \
         %\n",
        100.0 * same_argmax
    )
}

/// A number of tokens of which one predicts another.
fn window(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 1).ok_or_else(|| "expected a whole number of at least 2".to_owned())
}
