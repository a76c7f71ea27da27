//! Where the time of a generation went.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use leveret::{PassStats, Stats};

use crate::units::{gb, gb_per_second, percent, seconds};

/// A table of the categories, for the pass over the prompt and for all others together.
pub fn table(stats: &Stats) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["", "prefill", "", "decode", ""]);
    let decode = stats.decode.iter().fold(PassStats::default(), add);
    let passes = [&stats.prefill, &decode];
    let mut row = |name: &str, cells: [[String; 2]; 2]| {
        let [[a, b], [c, d]] = cells;
        table.add_row([name.to_owned(), a, b, c, d]);
    };
    let share = |of: fn(&PassStats) -> f64| {
        passes.map(|pass| [seconds(of(pass)), percent(of(pass) / pass.seconds.max(f64::MIN_POSITIVE))])
    };
    row("prepare", share(|pass| pass.prepare_seconds));
    row("wait for disk", share(|pass| pass.wait_read_seconds));
    row("wait for upload", share(|pass| pass.wait_upload_seconds));
    row("convert weights", share(|pass| pass.convert_seconds));
    row("compute", share(|pass| pass.compute_seconds));
    row("sampling", share(|pass| pass.sample_seconds));
    row("sum", share(PassStats::accounted_seconds));
    row("wall time", passes.map(|pass| [seconds(pass.seconds), String::new()]));
    let layers = [1, stats.decode.len()].map(|count| (count * stats.layers).max(1) as f64);
    let a_layer = [0, 1].map(|i| [seconds(passes[i].compute_seconds / layers[i]), String::new()]);
    row("compute a layer", a_layer);
    let moved = |bytes: u64, time: f64| match bytes {
        0 => ["-".to_owned(), String::new()],
        bytes => [seconds(time), format!("{} at {}", gb(bytes), gb_per_second(bytes as f64 / time))],
    };
    row("meanwhile: disk read", passes.map(|pass| moved(pass.read_bytes, pass.read_seconds)));
    row("meanwhile: upload", passes.map(|pass| moved(pass.upload_bytes, pass.upload_seconds)));
    if passes.iter().any(|pass| pass.experts > 0) {
        let share = |of: fn(&PassStats) -> usize| passes.map(|pass| [of(pass).to_string(), of_all(of(pass), pass)]);
        row("experts resident", share(|pass| pass.experts_resident));
        row("experts read", share(|pass| pass.experts_read));
    }
    table
}

/// Which part of the experts that were computed with.
fn of_all(part: usize, pass: &PassStats) -> String {
    percent(part as f64 / pass.experts.max(1) as f64)
}

fn add(mut sum: PassStats, pass: &PassStats) -> PassStats {
    sum += *pass;
    sum
}
