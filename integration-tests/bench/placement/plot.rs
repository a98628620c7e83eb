//! What a run measured, as bars in an SVG file: for each trace what every policy allocated, or how long pods waited.

use std::path::Path;

use berth_integration_tests::chart::{self, Bar, Panel};

use crate::options::Failure;
use crate::policies::Kind;
use crate::report::{Row, mean_and_sd};

/// The share of the width that names take.
const NAMES: f64 = 0.22;

/// Draws the rows; of those at several marks the first one.
///
/// # Errors
/// Fails where the file cannot be written.
pub fn draw(rows: &[Row], path: &Path) -> Result<(), Failure> {
    chart::draw(&panels(rows), path)
        .map_err(|error| Failure::failed(format!("{} cannot be drawn: {error}", path.display())))
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
            let is_ours = kind.name().starts_with("ours");
            Some(Bar { name: kind.name().to_owned(), value: mean, spread: Some(sd), is_ours })
        });
        let bars: Vec<Bar> = bars.collect();
        let low = |bar: &Bar| bar.value - bar.spread.unwrap_or_default();
        let lowest = bars.iter().map(low).fold(f64::INFINITY, f64::min);
        let least = if is_dynamic { 0.0 } else { (lowest / 10.0).floor() * 10.0 };
        Panel { title: format!("{trace}: {title} (bars begin at {least})"), least, names: NAMES, bars }
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
