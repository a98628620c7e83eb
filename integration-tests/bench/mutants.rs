//! Puts bugs into a copy of the sources and looks whether the history checker finds each of them over the
//! simulation. Ends with one line of JSON.
#![allow(clippy::expect_used, reason = "a gate ends when its ground gives way")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use berth_integration_tests::mutants::{MUTANTS, SCRIPT_MUTANTS, VARIABLE, copy_plain, plant};
use berth_integration_tests::tools::{PROGRAM, from_caller, root};
use serde_json::{Value, json};

/// The most seeds that a bug is given to show itself.
const SEEDS: u64 = 2_000;
/// Seeds that the sources without a bug must pass.
const CLEAN_SEEDS: u64 = 100;

/// Bugs of the services that real processes show within minutes, whatever the seed.
const BY_CHAOS: [&str; 3] = ["watch-skips-one", "attempt-not-raised", "lost-at-most-once-retried"];

/// How long the seeds of one bug may take.
const LIMIT: Duration = Duration::from_secs(1_800);

/// What is asked for.
struct Wanted {
    seeds: u64,
    /// The bugs by name, where not all of them are wanted.
    only: Option<Vec<String>>,
    patches: Option<PathBuf>,
    /// Real processes under real faults are to show them, for so many minutes each.
    chaos_minutes: Option<u64>,
}

/// What became of one bug.
struct Outcome {
    name: String,
    /// By which promise it was found, and after how many seeds, or within how many minutes of chaos.
    caught: Option<(String, u64)>,
    /// Why it was not.
    why: String,
}

fn main() -> ExitCode {
    let Some(wanted) = wanted(std::env::args().skip(1)) else {
        eprintln!("usage: mutants [--seeds N | --chaos MINUTES] [--only NAME,...] [--dir PATCHES]");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let work = root().join("target/mutants");
    let mut outcomes = Vec::new();
    let found = match wanted.chaos_minutes {
        Some(minutes) => under_chaos(&work, &wanted, minutes),
        None => planted(&work, &wanted),
    };
    match found {
        Ok(found) => outcomes.extend(found),
        Err(why) => {
            eprintln!("mutants: {why}");
            return ExitCode::from(3);
        }
    }
    if let Some(folder) = &wanted.patches {
        match patched(&work, folder, &wanted) {
            Ok(found) => outcomes.extend(found),
            Err(why) => {
                eprintln!("mutants: {}: {why}", folder.display());
                return ExitCode::from(2);
            }
        }
    }
    let caught = outcomes.iter().filter(|outcome| outcome.caught.is_some()).count();
    let missed: Vec<&str> = outcomes.iter().filter(|o| o.caught.is_none()).map(|o| o.name.as_str()).collect();
    println!("{caught} of {} caught", outcomes.len());
    let ok = missed.is_empty() && !outcomes.is_empty();
    let each = |o: &Outcome| {
        let (invariant, seeds) = o.caught.clone().unwrap_or_default();
        json!({ "name": o.name, "caughtBy": invariant, "seeds": seeds, "why": o.why })
    };
    let line = json!({ "recipe": "mutants", "ok": ok, "seed": 0, "seconds": began.elapsed().as_secs(),
        "total": outcomes.len(), "caught": caught, "missed": missed,
        "mutants": outcomes.iter().map(each).collect::<Vec<_>>() });
    println!("{line}");
    ExitCode::from(u8::from(!ok))
}

fn wanted(mut arguments: impl Iterator<Item = String>) -> Option<Wanted> {
    let mut wanted = Wanted { seeds: SEEDS, only: None, patches: None, chaos_minutes: None };
    while let Some(option) = arguments.next() {
        let value = arguments.next()?;
        match option.as_str() {
            "--seeds" => wanted.seeds = value.parse().ok().filter(|seeds| *seeds > 0)?,
            "--only" => wanted.only = Some(value.split(',').map(str::to_owned).collect()),
            "--chaos" => wanted.chaos_minutes = Some(value.parse().ok().filter(|minutes| *minutes > 0)?),
            "--dir" => wanted.patches = Some(from_caller(&value)),
            _ => return None,
        }
    }
    // Patches are for the simulation, and scripts for a real Redis.
    let by_chaos = wanted.chaos_minutes.is_some();
    let scripts = SCRIPT_MUTANTS.iter().filter(|_| by_chaos);
    let known: Vec<&str> = MUTANTS.iter().chain(scripts).map(|mutant| mutant.name).collect();
    let are_known = wanted.only.iter().flatten().all(|name| known.contains(&name.as_str()));
    (are_known && !(by_chaos && wanted.patches.is_some())).then_some(wanted)
}

/// Says whether a seed passes without any bug: then it was the bug that was caught.
fn passes(program: &Path, seed: u64) -> Result<bool, String> {
    Ok(play(program, None, (seed, seed))?["ok"] == true)
}

/// The bugs of the list: one program has all of them, and one is switched on at a time.
fn planted(work: &Path, wanted: &Wanted) -> Result<Vec<Outcome>, String> {
    let tree = work.join("planted");
    plant(root(), &tree)?;
    let program = built(&tree, work, &SIMULATION)?;
    let clean = play(&program, None, (0, CLEAN_SEEDS - 1))?;
    if clean["ok"] != true {
        return Err(format!("without any bug the simulation fails: {}", clean["violations"][0]));
    }
    println!("without a bug: {CLEAN_SEEDS} seeds pass");
    let is_wanted = |name: &str| wanted.only.as_ref().is_none_or(|only| only.iter().any(|one| one == name));
    let chosen = MUTANTS.iter().filter(|mutant| is_wanted(mutant.name));
    let outcomes = chosen.map(|mutant| {
        let played = play(&program, Some(mutant.name), (0, wanted.seeds - 1));
        let outcome = judged(mutant.name, played, |seed| passes(&program, seed));
        tell(&outcome, mutant.about);
        outcome
    });
    Ok(outcomes.collect())
}

/// Bugs that come as patches: each is built by itself.
fn patched(work: &Path, folder: &Path, wanted: &Wanted) -> Result<Vec<Outcome>, String> {
    let folder = folder.canonicalize().map_err(|error| error.to_string())?;
    let entries = std::fs::read_dir(&folder).map_err(|error| error.to_string())?;
    let mut patches: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    let tree = work.join("patched");
    let clean = built(root(), work, &SIMULATION)?;
    let mut outcomes = Vec::new();
    for patch in patches {
        let name = patch.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        copy_plain(root(), &tree).map_err(|error| error.to_string())?;
        let played = apply(&tree, &patch)
            .and_then(|()| built(&tree, work, &SIMULATION))
            .and_then(|program| play(&program, None, (0, wanted.seeds - 1)));
        let outcome = judged(&name, played, |seed| passes(&clean, seed));
        tell(&outcome, &patch.display().to_string());
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn apply(tree: &Path, patch: &Path) -> Result<(), String> {
    let applied = Command::new("git")
        .args(["apply", "--whitespace=nowarn", "-p1"])
        .arg(patch)
        .current_dir(tree)
        // The copy lies in another repository, which is none of its business.
        .env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree))
        .output()
        .map_err(|error| format!("git: {error}"))?;
    if applied.status.success() {
        Ok(())
    } else {
        Err(format!("does not apply: {}", String::from_utf8_lossy(&applied.stderr).trim()))
    }
}

/// The same bugs in the real program, shown by real processes; the harness that breaks them is as it is.
fn under_chaos(work: &Path, wanted: &Wanted, minutes: u64) -> Result<Vec<Outcome>, String> {
    let tree = work.join("planted");
    plant(root(), &tree)?;
    let program = built(&tree, work, &BERTH)?;
    let harness = built(root(), work, &CHAOS)?;
    let of_scripts = SCRIPT_MUTANTS.iter().map(|mutant| mutant.name);
    let by_default: Vec<String> = BY_CHAOS.into_iter().chain(of_scripts).map(str::to_owned).collect();
    let names = wanted.only.as_ref().unwrap_or(&by_default);
    if let Some((invariant, _)) = broken("none", &harness, &program, minutes).caught {
        return Err(format!("without any bug a run fails, too: {invariant}"));
    }
    println!("without a bug: {minutes} minutes pass");
    let outcomes = names.iter().map(|name| {
        let outcome = broken(name, &harness, &program, minutes);
        tell(&outcome, "by real processes");
        outcome
    });
    Ok(outcomes.collect())
}

/// Breaks a cluster with a bug in it.
fn broken(name: &str, harness: &Path, program: &Path, minutes: u64) -> Outcome {
    let mut command = Command::new(harness);
    command.args(["--minutes", &minutes.to_string()]).env(VARIABLE, name).env(PROGRAM, program);
    let output = command.stderr(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let line: Value =
        text.lines().last().and_then(|last| serde_json::from_str(last).ok()).unwrap_or_default();
    let first = &line["violations"][0];
    let caught = first["invariant"].as_str().map(|invariant| (invariant.to_owned(), minutes));
    let why = first["story"].as_str().unwrap_or("no promise was seen broken").to_owned();
    Outcome { name: name.to_owned(), caught, why }
}

/// What is built: the profile, the package and the program.
type Built = (&'static str, &'static str, &'static str);
const SIMULATION: Built = ("release", "berth-integration-tests", "sim");
const BERTH: Built = ("dev", "berth", "berth");
const CHAOS: Built = ("dev", "berth-integration-tests", "chaos");

/// Builds a program of a tree.
fn built(tree: &Path, work: &Path, what: &Built) -> Result<PathBuf, String> {
    let (profile, package, program) = *what;
    // Trees of one name for cargo would take each other's parts for their own.
    let target = if tree == root() { work.join("harness") } else { work.join("build") };
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--profile", profile, "-p", package, "--bin", program])
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", &target)
        .stdout(Stdio::null())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !built.status.success() {
        let says = String::from_utf8_lossy(&built.stderr).into_owned();
        let errors: Vec<&str> = says.lines().filter(|line| line.starts_with("error")).take(3).collect();
        return Err(format!("does not build: {}", errors.join("; ")));
    }
    Ok(target.join(if profile == "dev" { "debug" } else { profile }).join(program))
}

/// Plays seeds until one fails; gives the closing line.
fn play(program: &Path, mutant: Option<&str>, (first, last): (u64, u64)) -> Result<Value, String> {
    let mut command = Command::new(program);
    command.args(["--first", "--seeds", &format!("{first}-{last}")]);
    command.env_remove(VARIABLE).envs(mutant.map(|name| (VARIABLE, name)));
    let mut child =
        command.stderr(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
    let mut stdout = child.stdout.take().ok_or("no output")?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut text).map(|_| text)
    });
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        if began.elapsed() > LIMIT {
            child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
            return Err(format!("no end after {} s", LIMIT.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let text = reader.join().map_err(|_| "its output was not read")?.map_err(|error| error.to_string())?;
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|_| format!("the simulation itself broke: {status}"))
}

fn judged(
    name: &str,
    played: Result<Value, String>,
    passes_without: impl Fn(u64) -> Result<bool, String>,
) -> Outcome {
    let (caught, why) = match played {
        Err(why) => (None, why),
        Ok(line) if line["ok"] == true => (None, format!("{} seeds passed", line["seeds"])),
        Ok(line) => {
            let story = line["violations"][0]["story"].as_str().unwrap_or_default();
            let seeds = line["seeds"].as_u64().unwrap_or_default();
            match line["failingSeeds"][0].as_u64().map(passes_without) {
                Some(Ok(true)) => {
                    (Some((story.split(':').next().unwrap_or_default().to_owned(), seeds)), story.to_owned())
                }
                Some(Err(why)) => (None, why),
                Some(Ok(false)) | None => (None, format!("the seed fails without it, too: {story}")),
            }
        }
    };
    // A panic is no word of the checker.
    let caught = caught.filter(|(invariant, _)| !invariant.contains(' '));
    Outcome { name: name.to_owned(), caught, why }
}

fn tell(outcome: &Outcome, about: &str) {
    match &outcome.caught {
        Some((invariant, seeds)) => {
            println!("caught  {:<36} {invariant} within {seeds}: {about}", outcome.name);
        }
        None => println!("MISSED  {:<36} {about}: {}", outcome.name, outcome.why),
    }
}
