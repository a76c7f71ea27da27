use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use leveret::{Backend, Bench as Measured, BenchOptions, Budget, Model, Pace};
use serde_json::{Value, json};

use crate::device::{Devices, Task};
use crate::load::{DEMO, How};
use crate::picture::Picture;
use crate::plot::{self, Point};
use crate::sweep;
use crate::units::{at_least_one, gb, gb_per_second, mib, percent, seconds};

/// Measures how fast a model runs, and what the machine could do at most.
#[derive(Debug, Args)]
pub struct Bench {
    /// Directory of the checkpoint, or a model's name on the Hugging Face hub, as org/name[@revision]; a directory that
    /// exists wins.
    #[arg(env = "LEVERET_MODEL", default_value = DEMO)]
    model: PathBuf,
    /// Tokens of the prompt [default: 512, or as many as the model has positions for].
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    prompt_tokens: Option<usize>,
    /// Tokens to generate in each run.
    #[arg(long, value_name = "N", default_value_t = BenchOptions::default().max_tokens, value_parser = at_least_one, allow_negative_numbers = true)]
    max_tokens: usize,
    /// Runs to measure, after one that warms up.
    #[arg(long, value_name = "N", default_value_t = BenchOptions::default().runs, value_parser = at_least_one, allow_negative_numbers = true)]
    runs: usize,
    /// Sequences to generate at once, all with the same prompt.
    #[arg(long, value_name = "N", default_value_t = BenchOptions::default().batch, value_parser = at_least_one, allow_negative_numbers = true)]
    batch: usize,
    /// What to put side by side instead of --device, such as cpu,cuda; with semicolons where one of them is several
    /// devices: cuda:0;cuda:0,cuda:1.
    #[arg(long, value_name = "DEVICES")]
    compare: Option<String>,
    /// Draws seconds a token by memory, and what they go to, as an SVG file: runs with several budgets, and waits as
    /// --profile does.
    #[arg(long, value_name = "FILE", conflicts_with = "compare", value_parser = Picture::named)]
    plot: Option<Picture>,
    /// Budgets to run with, instead of --vram on a GPU and of --ram elsewhere, such as min,2GiB,free [default: some from
    /// the least that runs to what that flag allows].
    #[arg(long, value_name = "SIZES", value_delimiter = ',', requires = "plot")]
    budgets: Vec<Budget>,
    /// Prints one JSON object, or a list of them with --compare or --plot.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    how: How,
}

impl Bench {
    pub fn run(mut self) -> Result<()> {
        let named = |name: &str| Ok((name.to_owned(), name.parse::<Devices>()?));
        let devices: Vec<_> = match &self.compare {
            None => {
                let device = self.how.device.resolve()?;
                vec![(device.to_string(), device)]
            }
            Some(names) => {
                let between = if names.contains(';') { ';' } else { ',' };
                names.split(between).map(named).collect::<Result<_>>()?
            }
        };
        // Before minutes go into the first, see that the last can be had.
        devices.iter().try_for_each(|(_, devices): &(_, Devices)| devices.check())?;
        self.model = self.how.hub.dir(&self.model)?;
        self.how.profile = self.plot.is_some();
        self.plot.as_ref().map_or(Ok(()), Picture::check)?;
        let mut measured = Vec::new();
        for (name, devices) in devices {
            devices.run(OnDevices { bench: &self, name, measured: &mut measured })?;
        }
        if let Some(picture) = &self.plot {
            picture.write(&plot::svg(&self.title(&measured), &points(&measured))?)?;
        }
        let mut out = std::io::stdout();
        match (self.json, self.compare.is_none() && self.plot.is_none()) {
            (true, true) => writeln!(out, "{:#}", object(&measured[0])?)?,
            (true, false) => {
                let all = measured.iter().map(object).collect::<Result<Vec<_>>>()?;
                writeln!(out, "{:#}", Value::from(all))?;
            }
            (false, _) => writeln!(out, "{}", table(&measured).trim_fmt())?,
        }
        Ok(())
    }

    /// Which model runs where.
    fn title(&self, runs: &[Run]) -> String {
        let name = self.model.file_name().unwrap_or(self.model.as_os_str()).to_string_lossy();
        let device = runs.first().map_or("", |run| &run.device);
        format!("{name} on {device}")
    }
}

/// The measurements of one backend.
struct OnDevices<'a> {
    bench: &'a Bench,
    name: String,
    measured: &'a mut Vec<Run>,
}

/// One measurement.
struct Run {
    device: String,
    /// Of several budgets on one device, which.
    budget: Option<Budget>,
    measured: Measured,
}

impl Task for OnDevices<'_> {
    fn run<B: Backend>(self, devices: Vec<B::Device>) -> Result<()> {
        let Bench { model: path, prompt_tokens, max_tokens, runs, batch, how, .. } = self.bench;
        let load = |how: &How| how.load::<B>(path, devices.clone());
        let plan = |model: &Model<B>| {
            let prompt = sweep::prompt_tokens(*prompt_tokens, *max_tokens, &model.dims());
            model.plan(*batch, prompt, *max_tokens)
        };
        let hows = match self.bench.plot {
            Some(_) => sweep::budgets(how, &self.bench.budgets, load, plan)?,
            None => vec![(None, how.clone())],
        };
        for (budget, how) in hows {
            let mut options = BenchOptions::default();
            (options.prompt_tokens, options.max_tokens, options.runs) = (*prompt_tokens, *max_tokens, *runs);
            options.batch = *batch;
            let measured = load(&how)?.bench(&options)?;
            self.measured.push(Run { device: self.name.clone(), budget, measured });
        }
        Ok(())
    }
}

fn object(run: &Run) -> Result<Value> {
    let mut object = serde_json::to_value(&run.measured)?;
    object["device"] = json!(run.device);
    if let Some(budget) = run.budget {
        object["budget"] = json!(budget.to_string());
    }
    Ok(object)
}

/// What the picture shows of each run.
fn points(runs: &[Run]) -> Vec<Point> {
    let point = |Run { measured, .. }: &Run| {
        let (decode, batch) = (&measured.decode, measured.batch as f64);
        let compute = decode.convert_seconds + decode.compute_seconds;
        let parts = [decode.wait_read_seconds, decode.wait_upload_seconds, compute, decode.sample_seconds];
        let (memory, seconds) = (measured.plan.bytes(), decode.seconds / batch);
        Point { memory, seconds, parts: parts.map(|time| time / batch) }
    };
    let mut points: Vec<_> = runs.iter().map(point).collect();
    points.sort_by_key(|point| point.memory);
    points
}

/// One column a run, headed by what differs from run to run.
fn table(runs: &[Run]) -> Table {
    let mut table = Table::new();
    let head = |run: &Run| run.budget.map_or_else(|| run.device.clone(), |budget| budget.to_string());
    let corner = runs.first().filter(|run| run.budget.is_some()).map_or("", |run| &run.device).to_owned();
    table.load_style(NOTHING).set_header(std::iter::once(corner).chain(runs.iter().map(head)));
    let columns: Vec<_> = runs.iter().map(|run| rows(&run.measured)).collect();
    for (i, (name, _)) in columns[0].iter().enumerate() {
        table.add_row([name].into_iter().chain(columns.iter().map(|rows| &rows[i].1)));
    }
    table
}

/// What was measured, by name.
fn rows(m: &Measured) -> Vec<(String, String)> {
    let links: Vec<_> = m.limits.devices.iter().filter_map(|device| device.upload).map(gb_per_second).collect();
    let links = if links.is_empty() { "-".to_owned() } else { links.join(" + ") };
    let mut rows = vec![
        ("memory planned".to_owned(), mib(m.plan.bytes())),
        ("units resident".to_owned(), format!("{} of {}", m.plan.resident(), m.plan.tiers.len())),
        ("limit: reading".to_owned(), gb_per_second(m.limits.read)),
        ("limit: uploading".to_owned(), links),
        ("first token, first run".to_owned(), seconds(m.first_ttft)),
        ("first token (TTFT)".to_owned(), seconds(m.ttft)),
    ];
    for (name, pace) in [("prefill", &m.prefill), ("decode", &m.decode)] {
        let Pace { read_bytes, read_rate, read_of_limit, .. } = *pace;
        let Pace { upload_bytes, upload_rate, upload_of_limit, .. } = *pace;
        // One token each is all prefill.
        let passes = |text: String| if pace.seconds > 0.0 { text } else { "-".to_owned() };
        rows.push((format!("{name}: a pass"), passes(seconds(pace.seconds))));
        rows.push((format!("{name}: tokens a second"), passes(format!("{:.1}", pace.tokens_per_second))));
        rows.push((format!("{name}: read"), moved(read_bytes, read_rate, read_of_limit)));
        rows.push((format!("{name}: uploaded"), moved(upload_bytes, upload_rate, upload_of_limit)));
    }
    let memory = |bytes: Option<u64>| bytes.map_or("-".to_owned(), mib);
    rows.push(("peak memory".to_owned(), memory(m.peak_memory)));
    rows.push(("peak device memory".to_owned(), memory(m.peak_device_bytes)));
    rows
}

fn moved(bytes: u64, rate: f64, of_limit: f64) -> String {
    match bytes {
        0 => "-".to_owned(),
        bytes => format!("{} at {}, {} of the limit", gb(bytes), gb_per_second(rate), percent(of_limit)),
    }
}
