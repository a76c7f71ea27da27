//! Where a plan's bytes are, as a bar as wide as the terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use comfy_table::Table;
use leveret::{Plan, Tier};

use crate::units::mib;

/// The parts of a plan's memory, those that are there.
pub struct MemoryBar(Vec<Part>);

/// The part that is in no memory.
const DISK: &str = "disk";

struct Part {
    name: &'static str,
    bytes: u64,
    glyph: char,
    /// Of the terminal's own palette, so that it can be read on any background.
    colour: u8,
}

/// How a bar can be drawn.
#[derive(Debug, Clone, Copy)]
struct Look {
    width: usize,
    coloured: bool,
}

impl MemoryBar {
    /// The parts by a plan whose units have so many bytes.
    pub fn new(plan: &Plan, unit_bytes: &[u64]) -> Self {
        let sum = |of: &dyn Fn(&leveret::DevicePlan) -> u64| plan.devices.iter().map(of).sum::<u64>();
        let slots = sum(&|device| device.slots as u64 * device.slot_len);
        let (kv_cache, activations) = (sum(&|device| device.kv_cache), sum(&|device| device.activations));
        let experts = sum(&|device| {
            let elsewhere = device.all_experts.saturating_sub(device.experts + device.host_experts);
            elsewhere as u64 * device.expert_slot_len
        });
        let units = plan.tiers.iter().zip(unit_bytes).filter(|(tier, _)| **tier == Tier::Disk);
        let parts = [
            ("resident", plan.bytes().saturating_sub(slots + kv_cache + activations), '█', 32),
            ("slots", slots, '▓', 36),
            ("KV cache", kv_cache, '▒', 35),
            ("activations", activations, '░', 33),
            ("RAM", sum(&|device| device.host_bytes), '=', 34),
            (DISK, units.map(|(_, bytes)| bytes).sum::<u64>() + experts, '·', 90),
        ];
        let part = |(name, bytes, glyph, colour)| Part { name, bytes, glyph, colour };
        Self(parts.map(part).into_iter().filter(|part| part.bytes > 0).collect())
    }

    /// Drawn where standard output is a terminal, in words elsewhere.
    pub fn show(&self) -> String {
        if !io::stdout().is_terminal() {
            return self.words();
        }
        let width = Table::new().width().filter(|width| *width > 0).map_or(80, usize::from);
        let coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        self.drawn(Look { width, coloured })
    }

    fn words(&self) -> String {
        let (disk, memory): (Vec<_>, Vec<_>) = self.0.iter().partition(|part| part.name == DISK);
        let memory: Vec<_> = memory.iter().map(|part| format!("{} {}", part.name, mib(part.bytes))).collect();
        let disk = disk.iter().map(|part| format!("\ndisk:   {}", mib(part.bytes)));
        format!("memory: {}{}", memory.join(", "), disk.collect::<String>())
    }

    fn drawn(&self, look: Look) -> String {
        let mut text = String::new();
        for (part, cells) in self.0.iter().zip(self.cells(look.width)) {
            text.push_str(&part.paint(&part.glyph.to_string().repeat(cells), look));
        }
        let mut column = look.width;
        for part in &self.0 {
            let label = format!(" {} {}", part.name, mib(part.bytes));
            let len = 1 + label.chars().count();
            let fits = column + 2 + len <= look.width;
            text.push_str(if fits { "  " } else { "\n" });
            column = if fits { column + 2 + len } else { len };
            let _ = write!(text, "{}{label}", part.paint(&part.glyph.to_string(), look));
        }
        text
    }

    /// Cells of each part, one at least; the largest pays for that.
    fn cells(&self, width: usize) -> Vec<usize> {
        let all: u64 = self.0.iter().map(|part| part.bytes).sum();
        let share = |part: &Part| (width as f64 * part.bytes as f64 / all as f64).round().max(1.0) as usize;
        let mut cells: Vec<_> = self.0.iter().map(share).collect();
        if let Some(largest) = (0..cells.len()).max_by_key(|part| cells[*part]) {
            let others: usize = cells.iter().sum::<usize>() - cells[largest];
            cells[largest] = width.saturating_sub(others);
        }
        cells
    }
}

impl Part {
    fn paint(&self, text: &str, look: Look) -> String {
        match look.coloured {
            true => format!("\x1b[{}m{text}\x1b[0m", self.colour),
            false => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar() -> MemoryBar {
        let part = |name, mib: u64, glyph| Part { name, bytes: mib << 20, glyph, colour: 32 };
        MemoryBar(vec![part("resident", 600, '█'), part("KV cache", 1, '▒'), part("disk", 399, '·')])
    }

    #[test]
    fn every_part_is_seen_and_the_bar_is_as_wide_as_the_terminal() {
        let text = bar().drawn(Look { width: 30, coloured: false });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], format!("{}▒{}", "█".repeat(17), "·".repeat(12)));
        assert_eq!(lines[1..], ["█ resident 600.0 MiB", "▒ KV cache 1.0 MiB", "· disk 399.0 MiB"]);
    }

    #[test]
    fn colours_change_nothing_but_colour() {
        let [plain, coloured] = [false, true].map(|coloured| bar().drawn(Look { width: 100, coloured }));
        assert_ne!(plain, coloured);
        assert_eq!(plain, coloured.replace("\x1b[32m", "").replace("\x1b[0m", ""));
    }

    #[test]
    fn words_are_plain() {
        assert_eq!(bar().words(), "memory: resident 600.0 MiB, KV cache 1.0 MiB\ndisk:   399.0 MiB");
    }
}
