//! Judges histories that stand in files. Ends with one line of JSON.

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;
use std::time::Instant;

use berth_integration_tests::history::file::read;
use berth_integration_tests::history::{Violation, judge};
use berth_integration_tests::tools::from_caller;
use serde_json::{Value, json};

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() || files.iter().any(|file| file.starts_with("--")) {
        eprintln!("usage: history-check FILE.jsonl...");
        return ExitCode::from(2);
    }
    let began = Instant::now();
    let (mut violations, mut lines): (Vec<Value>, usize) = (Vec::new(), 0);
    for file in &files {
        let read =
            File::open(from_caller(file)).map_err(Into::into).and_then(|open| read(BufReader::new(open)));
        let history = match read {
            Ok(history) => history,
            Err(error) => {
                eprintln!("history-check: {file}: {error}");
                return ExitCode::from(2);
            }
        };
        lines += history.log.len() + history.tail.len() + history.runs.len() + history.submits.len();
        for violation in judge(&history) {
            println!("{file}: {violation}");
            violations.push(shown(file, &violation));
        }
    }
    let ok = violations.is_empty();
    println!("{} files, {lines} events: {} violations", files.len(), violations.len());
    let closing = json!({
        "recipe": "history-check", "ok": ok, "seed": null, "seconds": began.elapsed().as_secs(),
        "files": files.len(), "events": lines, "violations": violations,
    });
    println!("{closing}");
    ExitCode::from(u8::from(!ok))
}

fn shown(file: &str, violation: &Violation) -> Value {
    let position = violation
        .position
        .map(|(generation, revision)| json!({ "generation": generation, "revision": revision }));
    json!({
        "file": file, "invariant": format!("{:?}", violation.invariant), "position": position,
        "jobId": violation.job, "story": violation.story,
    })
}
