//! A picture of a model's pace by memory, and of where the time goes, as SVG.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::units::{mib, seconds};

/// What one budget gave.
pub struct Point {
    /// Bytes that it takes.
    pub memory: u64,
    /// Seconds a token.
    pub seconds: f64,
    /// Where they went, in the order of [`PARTS`].
    pub parts: [f64; 4],
}

/// What the time of a token goes to.
const PARTS: [(&str, RGBColor); 4] = [
    ("waiting for reads", RGBColor(0x3b, 0x82, 0xc4)),
    ("waiting for uploads", RGBColor(0xe0, 0x95, 0x2b)),
    ("computing", RGBColor(0x2f, 0xa0, 0x7a)),
    ("sampling", RGBColor(0xc0, 0x6a, 0xa6)),
];

const SIZE: (u32, u32) = (760, 560);
const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const PALE: RGBColor = RGBColor(0xd8, 0xdc, 0xe0);
const PAPER: RGBColor = RGBColor(0xfe, 0xfe, 0xfe);

/// The same colours where the reader prefers a dark page.
const STYLE: &str = "<style>text{font-family:system-ui,sans-serif}@media(prefers-color-scheme:dark){\
    [fill=\"#1F2328\"]{fill:#d6dbe0}[stroke=\"#1F2328\"]{stroke:#d6dbe0}[stroke=\"#D8DCE0\"]{stroke:#3a4048}\
    [fill=\"#FEFEFE\"]{fill:#0d1117}}</style>\n";

/// Draws points from the least memory to the most.
pub fn svg(title: &str, points: &[Point]) -> Result<String> {
    let mut text = String::new();
    {
        let page = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(&page, title, points).map_err(|error| anyhow!("the picture cannot be drawn: {error}"))?;
    }
    // Behind the opening tag, which is the first line.
    let head = text.find('\n').map_or(0, |end| end + 1);
    text.insert_str(head, STYLE);
    Ok(text)
}

type Page<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw<'a>(page: &Page<'a>, title: &str, points: &[Point]) -> Drawn<'a> {
    page.fill(&PAPER)?;
    page.draw(&Text::new(title.to_owned(), (24, 20), font(18)))?;
    let (upper, lower) = page.margin(50, 16, 24, 24).split_vertically(250);
    pace(&upper, points)?;
    shares(&lower, points)?;
    page.present()
}

/// Seconds a token by memory.
fn pace<'a>(area: &Page<'a>, points: &[Point]) -> Drawn<'a> {
    let (memory_unit, memory_scale) = match points.iter().any(|point| point.memory >= 4 << 30) {
        true => ("GiB", f64::from(1 << 30)),
        false => ("MiB", f64::from(1 << 20)),
    };
    let slowest = points.iter().map(|point| point.seconds).fold(0.0, f64::max);
    let (time_unit, time_scale) = if slowest < 1.0 { ("ms", 1e-3) } else { ("s", 1.0) };
    let at = |point: &Point| (point.memory as f64 / memory_scale, point.seconds / time_scale);
    let right = points.iter().map(|point| at(point).0).fold(0.0, f64::max) * 1.04;
    let top = slowest / time_scale * 1.1;
    let mut chart = ChartBuilder::on(area)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..right.max(f64::MIN_POSITIVE), 0.0..top.max(f64::MIN_POSITIVE))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(PALE)
        .axis_style(PALE)
        .label_style(font(13))
        .axis_desc_style(font(13))
        .x_desc(format!("memory for weights, KV cache and activations, {memory_unit}"))
        .y_desc(format!("{time_unit} a token"))
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .y_labels(5)
        .draw()?;
    chart.draw_series(LineSeries::new(points.iter().map(at), INK.stroke_width(2)))?;
    chart.draw_series(points.iter().map(|point| Circle::new(at(point), 4, INK.filled())))?;
    Ok(())
}

/// One bar a budget: what its token's time went to.
fn shares<'a>(area: &Page<'a>, points: &[Point]) -> Drawn<'a> {
    const LEFT: i32 = 96;
    const RIGHT: i32 = 80;
    let width = area.dim_in_pixel().0 as i32 - LEFT - RIGHT;
    let there: Vec<_> = (0..PARTS.len()).filter(|part| points.iter().any(|point| point.parts[*part] > 0.0)).collect();
    let mut x = LEFT;
    for part in &there {
        let (name, colour) = PARTS[*part];
        area.draw(&Rectangle::new([(x, 12), (x + 12, 24)], colour.filled()))?;
        area.draw(&Text::new(name, (x + 18, 18), middle(font(13), HPos::Left)))?;
        x += 40 + 7 * name.len() as i32;
    }
    let slowest = points.iter().map(|point| point.parts.iter().sum()).fold(f64::MIN_POSITIVE, f64::max);
    let room = area.dim_in_pixel().1 as i32 - 40;
    let step = (room / points.len().max(1) as i32).clamp(8, 40);
    for (row, point) in points.iter().enumerate() {
        let (top, mut left) = (40 + row as i32 * step, 0.0);
        let (bottom, centre) = (top + step * 2 / 3, top + step / 3);
        area.draw(&Text::new(mib(point.memory), (LEFT - 10, centre), middle(font(13), HPos::Right)))?;
        for part in &there {
            let pixel = |time: f64| LEFT + (f64::from(width) * time / slowest).round() as i32;
            let (from, to) = (pixel(left), pixel(left + point.parts[*part]));
            area.draw(&Rectangle::new([(from, top), (to, bottom)], PARTS[*part].1.filled()))?;
            left += point.parts[*part];
        }
        let end = LEFT + (f64::from(width) * left / slowest).round() as i32 + 8;
        area.draw(&Text::new(seconds(left), (end, centre), middle(font(13), HPos::Left)))?;
    }
    Ok(())
}

/// Text of so many pixels, which plotters would make smaller.
fn font(pixels: u32) -> TextStyle<'static> {
    ("sans-serif", 1.24 * f64::from(pixels)).into_font().color(&INK)
}

fn middle(style: TextStyle<'_>, side: HPos) -> TextStyle<'_> {
    style.pos(Pos::new(side, VPos::Center))
}

fn number(value: &f64) -> String {
    match *value {
        value if value >= 10.0 || value.fract() == 0.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_units_and_parts_that_are_there_in_two_palettes() {
        let point = |gib: u64, seconds| Point { memory: gib << 30, seconds, parts: [seconds / 2.0, 0.0, 0.1, 0.01] };
        let text = svg("a <model>", &[point(2, 4.0), point(16, 0.5)]).unwrap();
        for found in ["a &lt;model&gt;", "s a token", ", GiB", "waiting for reads", "2048.0 MiB", "scheme:dark"] {
            assert!(text.contains(found), "{found}: {text}");
        }
        assert!(!text.contains("uploads"), "{text}");
        assert!(STYLE.contains("#1F2328") && text.contains("fill=\"#1F2328\""), "the dark palette finds its colours");
    }
}
