//! What is asked for on the command line, and why a run ends without having measured anything.

use std::collections::BTreeSet;
use std::path::PathBuf;

use berth_integration_tests::tools::from_caller;

use crate::misfits::Misfit;
use crate::policies::Kind;
use crate::trace::file_of;
use crate::whole::Reach;

/// The pod lists that are run unless others are named.
const TRACES: [&str; 4] = ["default", "gpuspec33", "multigpu50", "cpu250"];
const NODES: &str = "openb_node_list_gpu_node.csv";
const FOLDER: &str = "../shared/data/openb";

/// Why nothing was measured, and the exit code that says so.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// As all recipes have it: 1 failed, 2 usage, 4 something is missing.
    pub code: u8,
    /// A sentence.
    pub message: String,
}

impl Failure {
    /// Something went wrong on the way.
    pub fn failed(message: String) -> Self {
        Self { code: 1, message }
    }

    /// The command line says nothing that could be done.
    pub fn usage(message: String) -> Self {
        Self { code: 2, message }
    }

    /// A file is not there.
    pub fn missing(message: String) -> Self {
        Self { code: 4, message }
    }
}

/// Which pods of a trace are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Those without a part of a GPU: whole GPUs, or none.
    Noshare,
    /// All, to compare with what was published.
    Frac,
}

/// How pods come to be placed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// One by one; what does not fit is dropped.
    Online,
    /// All at once; what does not fit is dropped.
    Batch,
    /// They come and go, and wait for room; this share of the GPUs is asked for on average.
    Dynamic(f64),
    /// Not what is decided, but how long it takes.
    Rounds,
}

/// What is asked for.
#[derive(Debug)]
pub struct Wanted {
    /// The list of nodes.
    pub nodes: PathBuf,
    /// The lists of pods.
    pub pods: Vec<PathBuf>,
    /// The first and the last seed.
    pub seeds: (u64, u64),
    /// The policies.
    pub policies: Vec<Kind>,
    /// Which pods.
    pub variant: Variant,
    /// Nodes in an order drawn from the seed, not that of the file.
    pub is_shuffled: bool,
    /// How they come.
    pub mode: Mode,
    /// How far a round of Berth's own queue goes.
    pub reach: Reach,
    /// Where a plot goes.
    pub plot: Option<PathBuf>,
    /// A promise that is not kept fails the run.
    pub is_checked: bool,
}

/// What can be asked for.
pub fn usage() -> String {
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    format!(
        "usage: ./run bench placement [--nodes FILE] [--pods FILE|NAME...] [--seeds A-B]\n  \
         [--policy POLICY...|all] [--variant noshare|frac] [--order file|shuffled]\n  \
         [--mode online|batch|dynamic|rounds] [--load L] [--round leader|whole]\n  \
         [--plot FILE.svg] [--check]\npolicies: {}, all",
        names.join(", ")
    )
}

/// Reads the command line.
///
/// # Errors
/// Says what cannot be understood, or does not apply, with the usage.
pub fn read(arguments: impl Iterator<Item = String>) -> Result<Wanted, Failure> {
    let mut wanted = Wanted {
        nodes: in_folder(NODES),
        pods: TRACES.iter().map(|name| in_folder(&file_of(name))).collect(),
        seeds: (0, 9),
        policies: Kind::ALL.to_vec(),
        variant: Variant::Noshare,
        is_shuffled: false,
        mode: Mode::Online,
        reach: Reach::Whole,
        plot: None,
        is_checked: false,
    };
    let (mut arguments, mut given, mut load) = (arguments.peekable(), BTreeSet::new(), None);
    while let Some(option) = arguments.next() {
        given.insert(option.clone());
        let mut values = Vec::new();
        while let Some(value) = arguments.next_if(|argument| !argument.starts_with("--")) {
            values.push(value);
        }
        if option == "--check" {
            if !values.is_empty() {
                return Err(refused(&option, "takes no value"));
            }
            wanted.is_checked = true;
            continue;
        }
        let [first, others @ ..] = values.as_slice() else { return Err(refused(&option, "has no value")) };
        if !others.is_empty() && !["--pods", "--policy"].contains(&option.as_str()) {
            return Err(refused(&option, "has one value"));
        }
        let unknown = || refused(&option, &format!("does not know {first:?}"));
        match (option.as_str(), first.as_str()) {
            ("--nodes", file) => wanted.nodes = file_at(file),
            ("--pods", _) => wanted.pods = values.iter().map(|value| list_at(value)).collect(),
            ("--seeds", text) => wanted.seeds = seeds(text).ok_or_else(unknown)?,
            ("--policy", _) => wanted.policies = policies(&values)?,
            ("--variant", "noshare") => wanted.variant = Variant::Noshare,
            ("--variant", "frac") => wanted.variant = Variant::Frac,
            ("--order", "file") => wanted.is_shuffled = false,
            ("--order", "shuffled") => wanted.is_shuffled = true,
            ("--mode", "online") => wanted.mode = Mode::Online,
            ("--mode", "batch") => wanted.mode = Mode::Batch,
            ("--mode", "dynamic") => wanted.mode = Mode::Dynamic(0.85),
            ("--mode", "rounds") => wanted.mode = Mode::Rounds,
            ("--plot", file) => wanted.plot = Some(from_caller(file)),
            ("--load", text) => load = Some(parse_load(text).ok_or_else(unknown)?),
            ("--round", "leader") => wanted.reach = Reach::Leader,
            ("--round", "whole") => wanted.reach = Reach::Whole,
            ("--variant" | "--order" | "--mode" | "--round", _) => return Err(unknown()),
            _ => return Err(refused(&option, "is not known")),
        }
    }
    if let (Mode::Dynamic(wanted), Some(load)) = (&mut wanted.mode, load) {
        *wanted = load;
    }
    if wanted.mode == Mode::Rounds && !given.contains("--seeds") {
        wanted.seeds = (0, 0);
    }
    if let Some(misfit) = Misfit::of(&wanted, &given) {
        return Err(Failure::usage(format!("{misfit}.\n{}", usage())));
    }
    Ok(wanted)
}

fn refused(option: &str, why: &str) -> Failure {
    Failure::usage(format!("{option} {why}.\n{}", usage()))
}

/// Reads names of policies; they run in the order of reports.
fn policies(names: &[String]) -> Result<Vec<Kind>, Failure> {
    if names == ["all"] {
        return Ok(Kind::ALL.to_vec());
    }
    let named = |name: &String| {
        Kind::parse(name).ok_or_else(|| refused("--policy", &format!("does not know {name:?}")))
    };
    let named: Vec<Kind> = names.iter().map(named).collect::<Result<_, _>>()?;
    Ok(Kind::ALL.into_iter().filter(|kind| named.contains(kind)).collect())
}

/// Reads `A-B` or `N`.
fn seeds(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = (first.parse().ok()?, last.parse().ok()?);
    (range.0 <= range.1).then_some(range)
}

fn parse_load(text: &str) -> Option<f64> {
    text.parse().ok().filter(|load| (0.01..=2.0).contains(load))
}

/// A list of pods: a path, or a short name such as `default`.
fn list_at(text: &str) -> PathBuf {
    if text.contains(['/', '.']) { file_at(text) } else { in_folder(&file_of(text)) }
}

/// A path of the caller's, or a name in the trace's folder.
fn file_at(text: &str) -> PathBuf {
    let given = from_caller(text);
    if text.contains('/') || given.exists() { given } else { in_folder(text) }
}

fn in_folder(name: &str) -> PathBuf {
    let folder = std::env::var("BERTH_OPENB_DIR").ok().filter(|folder| !folder.is_empty());
    folder.map_or_else(|| PathBuf::from(FOLDER), |folder| from_caller(&folder)).join(name)
}
