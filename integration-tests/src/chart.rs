//! Figures as bars in an SVG file.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

const WIDTH: u32 = 760;
const BAR_HEIGHT: u32 = 20;
const HEAD_HEIGHT: u32 = 44;
/// The share of the width that figures behind the bars take.
const FIGURES: f64 = 0.14;

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// What it stands for.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// The standard deviation, where the value is a mean.
    pub spread: Option<f64>,
    /// It is Berth's own, beside others.
    pub is_ours: bool,
}

/// Bars of one figure.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What is measured, in which unit.
    pub title: String,
    /// Where bars begin.
    pub least: f64,
    /// The share of the width that names take.
    pub names: f64,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// Draws panels one below the other.
///
/// # Errors
/// Fails where the file cannot be written.
pub fn draw(panels: &[Panel], path: &Path) -> Result<(), Box<dyn Error>> {
    let height = |panel: &Panel| {
        HEAD_HEIGHT + BAR_HEIGHT * u32::try_from(panel.bars.len()).unwrap_or(u32::MAX / BAR_HEIGHT)
    };
    let root = SVGBackend::new(path, (WIDTH, panels.iter().map(height).sum())).into_drawing_area();
    root.fill(&WHITE)?;
    let mut rest = root.clone();
    for panel in panels {
        let (area, below) = rest.split_vertically(height(panel));
        panel.draw(&area)?;
        rest = below;
    }
    root.present()?;
    Ok(())
}

impl Panel {
    #[allow(clippy::cast_precision_loss, reason = "positions of bars")]
    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Box<dyn Error>> {
        let spread = |bar: &Bar| bar.spread.unwrap_or(0.0);
        let most = self.bars.iter().map(|bar| bar.value + spread(bar)).fold(self.least, f64::max);
        let span = (most - self.least).max(1e-9);
        let width = span / (1.0 - self.names - FIGURES);
        let (left, right) = (self.least - width * self.names, most + width * FIGURES);
        let count = self.bars.len() as f64;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 15))
            .margin(4)
            .build_cartesian_2d(left..right, count..0.0)?;
        for (position, bar) in self.bars.iter().enumerate() {
            let top = position as f64;
            let (mean, sd) = (bar.value, spread(bar));
            let colour = if bar.is_ours { RGBColor(31, 119, 180) } else { RGBColor(170, 170, 170) };
            let filled = Rectangle::new([(self.least, top + 0.15), (mean, top + 0.85)], colour.filled());
            let text = |text: String, at: f64| Text::new(text, (at, top + 0.25), ("sans-serif", 12));
            chart.draw_series([filled])?;
            if bar.spread.is_some() {
                let line = PathElement::new([(mean - sd, top + 0.5), (mean + sd, top + 0.5)], BLACK);
                chart.draw_series([line])?;
            }
            chart.draw_series([text(bar.name.clone(), left)])?;
            let figure = bar.spread.map_or_else(|| shown(mean), |sd| format!("{mean:.2} ± {sd:.2}"));
            chart.draw_series([text(figure, mean + sd + width * 0.01)])?;
        }
        Ok(())
    }
}

/// As many digits as tell something.
fn shown(value: f64) -> String {
    match value.abs() {
        1_000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
