//! Draws what benchmarks have said: reads their JSON lines, and writes one SVG file for each kind.
#![allow(clippy::expect_used, reason = "figures that cannot be read or drawn end it")]

use std::path::Path;
use std::process::ExitCode;

use berth_integration_tests::chart::{self, Bar, Panel};
use serde_json::Value;

/// The share of the width that names take.
const NAMES: f64 = 0.34;

/// Panels of one file, from all lines.
type Draws = fn(&[Value]) -> Vec<Panel>;

/// Each file, and what it shows.
const FILES: &[(&str, Draws)] =
    &[("lives.svg", lives), ("control.svg", control), ("containers.svg", containers), ("scale.svg", scale)];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [lines, folder] = args.as_slice() else {
        eprintln!("usage: figures LINES.jsonl FOLDER");
        return ExitCode::from(2);
    };
    let text = std::fs::read_to_string(lines).expect("the lines can be read");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    std::fs::create_dir_all(folder).expect("the folder can be made");
    for (name, draws) in FILES {
        let panels = draws(&lines);
        if panels.is_empty() {
            continue;
        }
        let path = Path::new(folder).join(name);
        chart::draw(&panels, &path).expect("it can be drawn");
        println!("{}", path.display());
    }
    ExitCode::SUCCESS
}

fn of<'a>(lines: &'a [Value], bench: &str) -> impl Iterator<Item = &'a Value> {
    lines.iter().filter(move |line| line["bench"] == bench || line["recipe"] == bench)
}

fn panel(title: impl Into<String>, bars: Vec<Bar>) -> Panel {
    Panel { title: title.into(), least: 0.0, names: NAMES, bars }
}

fn bar(name: impl Into<String>, value: &Value, is_ours: bool) -> Option<Bar> {
    Some(Bar { name: name.into(), value: value.as_f64()?, spread: None, is_ours })
}

fn lives(lines: &[Value]) -> Vec<Panel> {
    let bars = of(lines, "lives").flat_map(|line| {
        let conditions = &line["conditions"];
        let fsync = conditions["fsync"].as_str().unwrap_or_default();
        let replicas = match conditions["replicas"].as_u64() {
            Some(1) => "1 replica".to_owned(),
            Some(count) => format!("{count} replicas"),
            None => return Vec::new(),
        };
        let alone = bar(format!("Redis alone, {fsync}"), &line["limit"], false);
        alone.into_iter().chain(bar(format!("Berth, {replicas}, {fsync}"), &line["value"], true)).collect()
    });
    let bars: Vec<Bar> = bars.collect();
    if bars.is_empty() { Vec::new() } else { vec![panel("Lives of jobs a second", bars)] }
}

fn control(lines: &[Value]) -> Vec<Panel> {
    let times = |times: &Value| {
        let parts = [
            ("acknowledged", "acknowledged"),
            ("toStream", "on the executor's stream"),
            ("toEnd", "end stored"),
        ];
        let each = parts.into_iter().flat_map(|(key, name)| {
            let of =
                |quantile: &str, key_of: &str| bar(format!("{name}, {quantile}"), &times[key][key_of], true);
            [of("median", "p50Ms"), of("99 %", "p99Ms")].into_iter().flatten().collect::<Vec<Bar>>()
        });
        each.collect::<Vec<Bar>>()
    };
    let panels = of(lines, "control").flat_map(|line| {
        let replicas = &line["conditions"]["replicas"];
        let alone = [("median", &line["limit"]), ("99 %", &line["limitP99Ms"])];
        let alone =
            alone.into_iter().filter_map(|(name, value)| bar(format!("Redis alone, {name}"), value, false));
        let title = format!("One job at a time, replicas: {replicas}, ms");
        let first = panel(title, alone.chain(times(&line["oneAtATime"])).collect());
        let rates = line["rates"].as_array().into_iter().flatten();
        let rates = rates.map(|rate| {
            panel(
                format!("{} submits a second, replicas: {replicas}, ms", rate["rate"]),
                times(&rate["times"]),
            )
        });
        std::iter::once(first).chain(rates).collect::<Vec<Panel>>()
    });
    panels.collect()
}

fn containers(lines: &[Value]) -> Vec<Panel> {
    let mut panels = Vec::new();
    if let Some(line) = of(lines, "containers").last() {
        let bars = [
            bar("the Docker API alone", &line["limit"], false),
            bar("Berth, networks of their own", &line["value"], true),
            bar("Berth, network slots", &line["slotsValue"], true),
            bar("Berth, warm containers", &line["warmValue"], true),
        ];
        panels.push(panel("Containers a second", bars.into_iter().flatten().collect()));
    }
    if let Some(line) = of(lines, "latency").last() {
        let bars = [
            bar("start, the Docker API alone", &line["dockerStartMs"], false),
            bar("start, Berth", &line["berthStartMs"], true),
            bar("end seen, the Docker API alone", &line["dockerMs"], false),
            bar("end seen, Berth", &line["berthMs"], true),
        ];
        panels.push(panel(
            "One container at a time, median from the request, ms",
            bars.into_iter().flatten().collect(),
        ));
    }
    panels
}

fn scale(lines: &[Value]) -> Vec<Panel> {
    let Some(line) = of(lines, "scale").last() else { return Vec::new() };
    let rows = |key: &str| line["figures"][key].as_array().cloned().unwrap_or_default();
    let growth = |title: &str, key: &str, size: &str, figure: &dyn Fn(&Value) -> Value| {
        let rows = rows(key);
        let bars = rows.iter().filter_map(|row| bar(format!("{} {size}", row[size]), &figure(row), true));
        panel(title, bars.collect())
    };
    vec![
        growth("KiB of the leader a session", "sessions", "sessions", &|row| row["kibEach"].clone()),
        growth("Jobs submitted a second", "pending", "pending", &|row| row["submittedPerS"].clone()),
        growth("Bytes a job in Redis", "pending", "pending", &|row| row["redisBytesEach"].clone()),
        growth("From an end to the next start, 99 %, ms", "pending", "pending", &|row| {
            row["nextStart"]["p99Ms"].clone()
        }),
    ]
}
