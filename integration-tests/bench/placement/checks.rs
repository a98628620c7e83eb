//! What placement promises, judged by means over the seeds of a run: each promise with what was measured and what it
//! is held against. It knows rows, not how they came about.

use serde_json::{Value, json};

use crate::options::{Failure, Mode, Variant, Wanted};
use crate::policies::Kind;
use crate::report::{PUBLISHED, Row, mean_and_sd, rounded};
use crate::rounds::{Scene, Timed};

/// What `ours` has given out of the GPUs at least when all were asked for: one by one, whole GPUs.
const LEAST_ALLOCATED: (&str, f64) = ("gpuspec33", 96.5);
/// So many points at most lie between what fgd gives out here and what was published.
const MOST_POINTS_OFF: f64 = 0.5;
/// Of these traces a round of so many jobs on so many nodes is promised, in milliseconds.
const TIMED: [&str; 2] = ["default", "gpuspec33"];
const SIZE: (usize, usize) = (100_000, 10_000);
const MOST_MS: [(Scene, f64); 2] = [(Scene::Empty, 100.0), (Scene::Fragmented, 250.0)];

/// That `ours` is not worse than others.
struct Rivalry {
    promise: &'static str,
    figure: fn(&Row) -> Option<f64>,
    rivals: &'static [Kind],
    is_more_better: bool,
}

const OF_PLACES: [Rivalry; 3] = [
    Rivalry {
        promise: "GPUs allocated, in percent, no less than by the better of fgd and first-fit",
        figure: |row| Some(row.placed.allocated_pct),
        rivals: &[Kind::Fgd, Kind::FirstFit],
        is_more_better: true,
    },
    Rivalry {
        promise: "8-GPU pods placed, in percent, no less than by fgd",
        figure: |row| row.placed.eight_gpu_pct,
        rivals: &[Kind::Fgd],
        is_more_better: true,
    },
    Rivalry {
        promise: "CPU-only pods placed, in percent, no less than by fgd",
        figure: |row| row.placed.cpu_only_pct,
        rivals: &[Kind::Fgd],
        is_more_better: true,
    },
];

const OF_WAITS: [Rivalry; 2] = [
    Rivalry {
        promise: "mean wait, in seconds, no longer than with fgd",
        figure: |row| row.waits.map(|waits| waits.mean_s),
        rivals: &[Kind::Fgd],
        is_more_better: false,
    },
    Rivalry {
        promise: "mean wait of 8-GPU pods, in seconds, no longer than with fgd",
        figure: |row| row.waits.and_then(|waits| waits.eight_gpu_s),
        rivals: &[Kind::Fgd],
        is_more_better: false,
    },
];

/// A promise, and what the run says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// What is promised.
    pub promise: String,
    /// Of which trace.
    pub trace: String,
    /// What was measured: of `ours`, but for fgd beside what was published.
    pub ours: f64,
    /// What it is held against.
    pub limit: f64,
    /// Whether the promise is kept.
    pub holds: bool,
}

impl Check {
    fn line(&self) -> String {
        let Self { promise, trace, ours, limit, .. } = self;
        format!("{trace}: {promise}: {ours:.3}, limit {limit:.3}")
    }
}

/// What a run says of all that is promised of it.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What was judged.
    pub checks: Vec<Check>,
    /// What was not, and why.
    pub unjudged: Vec<String>,
}

impl Verdict {
    /// Judges a run of policies.
    pub fn of_policies(rows: &[Row], wanted: &Wanted) -> Self {
        let mut verdict = Self::default();
        let rivalries: &[Rivalry] = match wanted.mode {
            Mode::Online | Mode::Batch => &OF_PLACES,
            Mode::Dynamic(_) => &OF_WAITS,
            Mode::Rounds => &[],
        };
        for (position, row) in rows.iter().enumerate() {
            let is_same = |other: &&Row| other.trace == row.trace && other.arrived_pct == row.arrived_pct;
            if !rows[..position].iter().any(|other| is_same(&other)) {
                let table: Vec<&Row> = rows.iter().filter(is_same).collect();
                rivalries.iter().for_each(|rivalry| verdict.compare(&table, row, rivalry));
            }
        }
        let at_100 = |kind: Kind, trace: &str| {
            let is_it = |row: &&Row| row.policy == kind && row.trace == trace && row.arrived_pct == 100.0;
            mean(rows.iter().filter(is_it).map(|row| row.placed.allocated_pct))
        };
        if (wanted.mode, wanted.variant) == (Mode::Online, Variant::Noshare) {
            let (trace, least) = LEAST_ALLOCATED;
            let promise = format!("GPUs allocated at 100 % arrived, {least} % at least");
            verdict.judge(promise, trace, at_100(Kind::Ours, trace), least, |ours| ours >= least);
        }
        if (wanted.mode, wanted.variant, wanted.is_shuffled) == (Mode::Online, Variant::Frac, false) {
            for (trace, published) in PUBLISHED {
                let promise =
                    format!("GPUs allocated by fgd, within {MOST_POINTS_OFF} points of the paper's");
                let is_near = |here: f64| (here - published).abs() <= MOST_POINTS_OFF;
                verdict.judge(promise, trace, at_100(Kind::Fgd, trace), published, is_near);
            }
        }
        verdict
    }

    /// Judges how long rounds took.
    pub fn of_rounds(timed: &[Timed]) -> Self {
        let mut verdict = Self::default();
        for (trace, (scene, most_ms)) in TIMED.into_iter().flat_map(|trace| MOST_MS.map(|most| (trace, most)))
        {
            let is_it = |timed: &&Timed| {
                timed.trace == trace && (timed.jobs, timed.nodes) == SIZE && timed.scene == scene
            };
            let round_ms = timed.iter().find(is_it).map(|timed| timed.round.as_secs_f64() * 1e3);
            let (jobs, nodes) = SIZE;
            let promise =
                format!("a round of {jobs} jobs on {nodes} nodes, {}, under {most_ms} ms", scene.name());
            verdict.judge(promise, trace, round_ms, most_ms, |ms| ms < most_ms);
        }
        verdict
    }

    fn judge(
        &mut self,
        promise: String,
        trace: &str,
        ours: Option<f64>,
        limit: f64,
        is_kept: impl FnOnce(f64) -> bool,
    ) {
        match ours {
            Some(ours) => {
                let (trace, holds) = (trace.to_owned(), is_kept(ours));
                self.checks.push(Check { promise, trace, ours, limit, holds });
            }
            None => self.unjudged.push(format!("{trace}: {promise}: it was not measured")),
        }
    }

    /// Holds `ours` against its rivals in rows of one trace and mark.
    fn compare(&mut self, table: &[&Row], of: &Row, rivalry: &Rivalry) {
        let Rivalry { promise, figure, rivals, is_more_better } = rivalry;
        let promise = match of.waits {
            None => format!("{promise}, at {} % arrived", of.arrived_pct),
            Some(_) => format!("{promise}, at {} % load", of.arrived_pct),
        };
        let mean_of = |kind: Kind| {
            let rows = table.iter().filter(|row| row.policy == kind);
            mean(rows.filter_map(|row| figure(row)))
        };
        let better = |one: f64, other: f64| if *is_more_better { one.max(other) } else { one.min(other) };
        let limits: Option<Vec<f64>> = rivals.iter().map(|kind| mean_of(*kind)).collect();
        match limits.and_then(|limits| limits.into_iter().reduce(better)) {
            Some(limit) => {
                let is_kept = |ours: f64| better(ours, limit) == ours;
                self.judge(promise, &of.trace, mean_of(Kind::Ours), limit, is_kept);
            }
            None => {
                let lacking = rivals.iter().filter(|kind| mean_of(**kind).is_none());
                let names: Vec<&str> = lacking.map(|kind| kind.name()).collect();
                self.unjudged.push(format!(
                    "{}: {promise}: there are no figures of {}",
                    of.trace,
                    names.join(" and ")
                ));
            }
        }
    }

    /// Shows every promise with its figures.
    pub fn print(&self) {
        println!("what is promised");
        for check in &self.checks {
            println!("  {:10} {}", if check.holds { "kept" } else { "NOT KEPT" }, check.line());
        }
        self.unjudged.iter().for_each(|line| println!("  not judged {line}"));
    }

    /// The promises as users' scripts read them.
    pub fn json(&self) -> Value {
        let one = |check: &Check| {
            let Check { promise, trace, ours, limit, holds } = check;
            let (ours, limit) = (rounded(Some(*ours)), rounded(Some(*limit)));
            json!({ "promise": promise, "trace": trace, "ours": ours, "limit": limit, "holds": holds })
        };
        self.checks.iter().map(one).collect()
    }

    /// Whether the run may pass.
    ///
    /// # Errors
    /// Names every promise that is not kept; a run of which nothing could be judged was asked for wrongly.
    pub fn outcome(&self) -> Result<(), Failure> {
        if self.checks.is_empty() {
            let message = "--check found nothing to judge: --policy must name ours, fgd and first-fit, and --pods \
                           the traces that something is promised of.";
            return Err(Failure::usage(message.to_owned()));
        }
        let broken = self.checks.iter().filter(|check| !check.holds);
        let lines: Vec<String> = broken.map(|check| format!("Not kept: {}.", check.line())).collect();
        if lines.is_empty() { Ok(()) } else { Err(Failure::failed(lines.join("\n"))) }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    mean_and_sd(values).map(|(mean, _)| mean)
}
