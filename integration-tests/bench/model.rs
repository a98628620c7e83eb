//! Looks at every order of events of the commit and session protocol, at a small size. Ends with one line
//! of JSON.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use berth_integration_tests::protocol::{Case, Checked, alike, check, compare, many, shortest};
use serde_json::{Value, json};

/// How long a shorter story of a broken promise is looked for.
const STORY: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let Some(cases) = wanted(std::env::args().skip(1)) else {
        eprintln!("usage: model [--case NAME]");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all: Vec<Checked> = Vec::new();
    for case in cases {
        let checked = check(case, threads);
        tell(&checked);
        all.push(checked);
    }
    let unlike: Vec<String> = alike().into_iter().filter_map(|case| compare(case).err()).collect();
    for story in &unlike {
        println!("states are wrongly taken for one: {story}");
    }
    let ok = all.iter().all(Checked::is_ok) && unlike.is_empty();
    let states: usize = all.iter().map(|checked| checked.states).sum();
    let mut properties: Vec<&str> = all.iter().flat_map(|checked| checked.kept.iter().copied()).collect();
    properties.sort_unstable();
    properties.dedup();
    let broken: Vec<Value> = all
        .iter()
        .flat_map(|checked| checked.broken.iter().map(|(promise, _)| json!([checked.case.name, promise])))
        .collect();
    let missed: Vec<Value> = all
        .iter()
        .flat_map(|checked| checked.missed.iter().map(|event| json!([checked.case.name, event])))
        .collect();
    let cases: Vec<Value> = all
        .iter()
        .map(|checked| json!({ "case": checked.case.name, "states": checked.states, "depth": checked.depth }))
        .collect();
    println!("{} cases, {states} states, {} promises: {} broken", all.len(), properties.len(), broken.len());
    let closing = json!({
        "recipe": "model", "ok": ok, "seed": null, "seconds": began.elapsed().as_secs(), "states": states,
        "properties": properties, "broken": broken, "missed": missed, "cases": cases,
    });
    println!("{closing}");
    ExitCode::from(u8::from(!ok))
}

fn wanted(mut arguments: impl Iterator<Item = String>) -> Option<Vec<Case>> {
    let cases = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => many(),
        (Some("--case"), Some(name)) => many().into_iter().filter(|case| case.name == name).collect(),
        (Some(_), _) => return None,
    };
    (!cases.is_empty() && arguments.next().is_none()).then_some(cases)
}

fn tell(checked: &Checked) {
    let (name, took) = (checked.case.name, checked.took.as_secs_f64());
    println!("{name}: {} states, at most {} events in a row, {took:.1} s", checked.states, checked.depth);
    for event in &checked.missed {
        println!("  too little was tried: never seen: {event}");
    }
    let Some((promise, story)) = checked.broken.first() else { return };
    let shorter = shortest(checked.case, STORY).broken.into_iter().min_by_key(|(_, story)| story.len());
    let (promise, story) = shorter.as_ref().map_or((promise, story), |(promise, story)| (promise, story));
    println!("  broken: {promise}");
    for event in story {
        println!("    {event:?}");
    }
}
