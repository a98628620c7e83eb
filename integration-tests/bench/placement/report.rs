//! What a run measured, as rows of JSON and as tables of means and standard deviations for people.

use serde_json::{Value, json};

use crate::arrivals::Placed;
use crate::dynamic::Waits;
use crate::options::{Mode, Variant, Wanted};
use crate::policies::Kind;
use crate::whole::Reach;

/// The allocation that was published for fragmentation gradient descent at 100 % arrived ("Beware of
/// Fragmentation", USENIX ATC 2023): variant `frac`, one by one, nodes in the order of the file.
pub const PUBLISHED: [(&str, f64); 2] = [("default", 95.23), ("gpuspec33", 87.84)];

/// One seed of one policy on one trace, up to a mark.
#[derive(Debug, Clone)]
pub struct Row {
    /// The policy.
    pub policy: Kind,
    /// The trace's name.
    pub trace: String,
    /// The seed.
    pub seed: u64,
    /// The GPUs asked for, in percent of the cluster's; of a dynamic run the load.
    pub arrived_pct: f64,
    /// What was placed.
    pub placed: Placed,
    /// How long pods waited, in a dynamic run.
    pub waits: Option<Waits>,
}

impl Row {
    /// The row as users' scripts read it.
    pub fn json(&self) -> Value {
        json!({
            "policy": self.policy.name(),
            "trace": self.trace,
            "seed": self.seed,
            "arrivedPct": self.arrived_pct,
            "allocatedPct": rounded(Some(self.placed.allocated_pct)),
            "unallocatedGpus": rounded(Some(self.placed.unallocated_gpus)),
            "placed8GpuPct": rounded(self.placed.eight_gpu_pct),
            "placedCpuOnlyPct": rounded(self.placed.cpu_only_pct),
            "meanWaitS": rounded(self.waits.map(|waits| waits.mean_s)),
            "p99WaitS": rounded(self.waits.map(|waits| waits.p99_s)),
            "wait8GpuS": rounded(self.waits.and_then(|waits| waits.eight_gpu_s)),
        })
    }
}

/// A figure with three digits.
pub fn rounded(value: Option<f64>) -> Option<f64> {
    value.map(|value| (value * 1_000.0).round() / 1_000.0)
}

/// Prints a table for each trace and mark.
pub fn print(rows: &[Row], wanted: &Wanted) {
    for (position, row) in rows.iter().enumerate() {
        let is_same = |other: &Row| other.trace == row.trace && other.arrived_pct == row.arrived_pct;
        if rows[..position].iter().any(is_same) {
            continue;
        }
        let table: Vec<&Row> = rows.iter().filter(|other| is_same(other)).collect();
        println!("{}, {} % arrived, {}", row.trace, row.arrived_pct, conditions(wanted));
        print_table(&table, wanted);
    }
    print_published(rows, wanted);
}

/// The conditions that all rows have in common.
pub fn conditions(wanted: &Wanted) -> String {
    let variant = match wanted.variant {
        Variant::Noshare => "noshare",
        Variant::Frac => "frac",
    };
    let mode = match wanted.mode {
        Mode::Online => "online".to_owned(),
        Mode::Batch => "batch".to_owned(),
        Mode::Dynamic(load) => format!("dynamic at load {load}"),
        Mode::Rounds => "rounds on one thread".to_owned(),
    };
    let rounds = match wanted.reach {
        Reach::Leader => ", rounds as a leader's",
        Reach::Whole => "",
    };
    let order = if wanted.is_shuffled { "shuffled" } else { "file" };
    format!("{variant}, nodes in {order} order, {mode}{rounds}, seeds {}-{}", wanted.seeds.0, wanted.seeds.1)
}

fn print_table(table: &[&Row], wanted: &Wanted) {
    let waits = if matches!(wanted.mode, Mode::Dynamic(_)) { "  mean wait, 99 %, 8-GPU (min)" } else { "" };
    println!(
        "  {:14} {:>11} {:>6} {:>10} {:>9} {:>9}{waits}",
        "policy", "allocated %", "sd", "GPUs free", "8-GPU %", "no GPU %"
    );
    for kind in Kind::ALL {
        let rows: Vec<&&Row> = table.iter().filter(|row| row.policy == kind).collect();
        if rows.is_empty() {
            continue;
        }
        let of = |figure: fn(&Row) -> Option<f64>| mean_and_sd(rows.iter().filter_map(|row| figure(row)));
        let shown = |figure: fn(&Row) -> Option<f64>| {
            of(figure).map_or_else(|| "-".to_owned(), |(mean, _)| format!("{mean:.1}"))
        };
        let (mean, sd) = of(|row| Some(row.placed.allocated_pct)).unwrap_or_default();
        print!(
            "  {:14} {mean:>11.2} {sd:>6.2} {:>10} {:>9} {:>9}",
            kind.name(),
            shown(|row| Some(row.placed.unallocated_gpus)),
            shown(|row| row.placed.eight_gpu_pct),
            shown(|row| row.placed.cpu_only_pct),
        );
        if !waits.is_empty() {
            print!(
                "  {:>9} {:>9} {:>9}",
                shown(|row| row.waits.map(|waits| waits.mean_s / 60.0)),
                shown(|row| row.waits.map(|waits| waits.p99_s / 60.0)),
                shown(|row| row.waits.and_then(|waits| waits.eight_gpu_s).map(|wait| wait / 60.0)),
            );
        }
        println!();
    }
}

fn print_published(rows: &[Row], wanted: &Wanted) {
    if wanted.variant != Variant::Frac || wanted.mode != Mode::Online || wanted.is_shuffled {
        return;
    }
    for (trace, published) in PUBLISHED {
        let is_it = |row: &&Row| row.policy == Kind::Fgd && row.trace == trace && row.arrived_pct == 100.0;
        let measured = rows.iter().filter(is_it).map(|row| row.placed.allocated_pct);
        if let Some((mean, _)) = mean_and_sd(measured) {
            let by = mean - published;
            println!("fgd on {trace} at 100 %: {mean:.2} here, {published} published, {by:+.2} points");
        }
    }
}

/// Mean and sample standard deviation; none of nothing.
pub fn mean_and_sd(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let values: Vec<f64> = values.collect();
    let count = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((mean, if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 }))
}
