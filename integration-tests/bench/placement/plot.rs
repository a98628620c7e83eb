//! What a run measured, as bars in an SVG file: for each trace what every policy allocated, or how long pods waited.

use std::path::Path;

use plotters::prelude::*;

use crate::options::Failure;
use crate::policies::Kind;
use crate::report::{Row, mean_and_sd};

const WIDTH: u32 = 760;
const BAR_HEIGHT: u32 = 20;
const HEAD_HEIGHT: u32 = 44;
/// The share of the width that names take.
const NAMES: f64 = 0.22;
/// The share that figures behind the bars take.
const FIGURES: f64 = 0.14;

/// Bars of one figure.
struct Panel {
    title: String,
    /// Where bars begin.
    least: f64,
    /// Policy, mean and standard deviation.
    bars: Vec<(&'static str, f64, f64)>,
}

/// Draws the rows; of those at several marks the first one.
///
/// # Errors
/// Fails where the file cannot be written.
pub fn draw(rows: &[Row], path: &Path) -> Result<(), Failure> {
    let panels = panels(rows);
    let height = |panel: &Panel| HEAD_HEIGHT + BAR_HEIGHT * panel.bars.len() as u32;
    let failed = |error: &dyn std::fmt::Display| {
        Failure::failed(format!("{} cannot be drawn: {error}", path.display()))
    };
    let root = SVGBackend::new(path, (WIDTH, panels.iter().map(height).sum())).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut rest = root.clone();
    for panel in &panels {
        let (area, below) = rest.split_vertically(height(panel));
        panel.draw(&area).map_err(|error| failed(&error))?;
        rest = below;
    }
    root.present().map_err(|error| failed(&error))
}

fn panels(rows: &[Row]) -> Vec<Panel> {
    let mut traces: Vec<&str> = rows.iter().map(|row| row.trace.as_str()).collect();
    traces.dedup();
    let is_dynamic = rows.iter().any(|row| row.waits.is_some());
    let mark = rows.first().map_or(0.0, |row| row.arrived_pct);
    let of = |trace: &str, title: &str, figure: &dyn Fn(&Row) -> Option<f64>| {
        let bars = Kind::ALL.iter().filter_map(|kind| {
            let is_it = |row: &&Row| row.trace == trace && row.policy == *kind && row.arrived_pct == mark;
            let (mean, sd) = mean_and_sd(rows.iter().filter(is_it).filter_map(figure))?;
            Some((kind.name(), mean, sd))
        });
        let bars: Vec<(&str, f64, f64)> = bars.collect();
        let lowest = bars.iter().map(|(_, mean, sd)| mean - sd).fold(f64::INFINITY, f64::min);
        let least = if is_dynamic { 0.0 } else { (lowest / 10.0).floor() * 10.0 };
        Panel { title: format!("{trace}: {title} (bars begin at {least})"), least, bars }
    };
    let minutes = |seconds: Option<f64>| seconds.map(|seconds| seconds / 60.0);
    let each = traces.into_iter().flat_map(|trace| {
        if is_dynamic {
            vec![
                of(trace, "mean wait, minutes", &|row| minutes(row.waits.map(|waits| waits.mean_s))),
                of(trace, "mean wait of pods with 8 GPUs, minutes", &|row| {
                    minutes(row.waits.and_then(|waits| waits.eight_gpu_s))
                }),
            ]
        } else {
            let title = format!("GPUs allocated at {mark} % arrived, %");
            vec![of(trace, &title, &|row| Some(row.placed.allocated_pct))]
        }
    });
    each.collect()
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

impl Panel {
    fn draw(&self, area: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
        let most = self.bars.iter().map(|(_, mean, sd)| mean + sd).fold(self.least, f64::max);
        let span = (most - self.least).max(1e-9);
        let width = span / (1.0 - NAMES - FIGURES);
        let (left, right) = (self.least - width * NAMES, most + width * FIGURES);
        let count = self.bars.len() as f64;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 15))
            .margin(4)
            .build_cartesian_2d(left..right, count..0.0)?;
        for (position, (name, mean, sd)) in self.bars.iter().enumerate() {
            let top = position as f64;
            let middle = top + 0.25;
            let colour =
                if name.starts_with("ours") { RGBColor(31, 119, 180) } else { RGBColor(170, 170, 170) };
            let bar = Rectangle::new([(self.least, top + 0.15), (*mean, top + 0.85)], colour.filled());
            let spread = PathElement::new([(mean - sd, top + 0.5), (mean + sd, top + 0.5)], BLACK);
            let text = |text: String, at: f64| Text::new(text, (at, middle), ("sans-serif", 12));
            chart.draw_series([bar])?;
            chart.draw_series([spread])?;
            chart.draw_series([text((*name).to_owned(), left)])?;
            chart.draw_series([text(format!("{mean:.2} ± {sd:.2}"), mean + sd + width * 0.01)])?;
        }
        Ok(())
    }
}
