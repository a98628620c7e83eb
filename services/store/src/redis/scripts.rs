//! The scripts, each with the hash it is called by.
//!
//! The commit script exists twice. Without a flag Redis refuses it when its memory is full, which
//! is right for calls that bring new jobs only; with `allow-oom` running jobs can be reported and
//! the lock renewed even then.

use fred::util::sha1_hash;

const ALLOW_OOM: &str = "#!lua flags=allow-oom\n";
const PLAIN: &str = "#!lua\n";
const READS: &str = "#!lua flags=no-writes\n";
const TIME: &str = include_str!("lua/time.lua");
const PRELUDE: &str = include_str!("lua/prelude.lua");
const NEVER_CROWDED: &str = "local function is_crowded() return false end\n";

/// One script.
#[derive(Debug)]
pub(super) struct Script {
    /// What `EVALSHA` is given.
    pub(super) hash: String,
    /// What `EVAL` is given where the server does not know the hash.
    pub(super) source: String,
}

impl Script {
    fn new(parts: &[&str]) -> Self {
        let source = parts.concat();
        Self { hash: sha1_hash(&source), source }
    }
}

/// All scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) submit: Script,
    pub(super) commit: Script,
    pub(super) meta: Script,
    pub(super) lock: Script,
    pub(super) leases: Script,
    pub(super) announce: Script,
    pub(super) schedulers: Script,
    pub(super) changes: Script,
    pub(super) history: Script,
    pub(super) jobs: Script,
    pub(super) specs: Script,
    pub(super) executors: Script,
    pub(super) page: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let commit = include_str!("lua/commit.lua");
        let writes = |body: &str| Script::new(&[ALLOW_OOM, TIME, PRELUDE, body]);
        let reads = |body: &str| Script::new(&[body]);
        Self {
            submit: Script::new(&[PLAIN, TIME, PRELUDE, include_str!("lua/crowded.lua"), commit]),
            commit: Script::new(&[ALLOW_OOM, TIME, PRELUDE, NEVER_CROWDED, commit]),
            meta: writes(include_str!("lua/meta.lua")),
            lock: writes(include_str!("lua/lock.lua")),
            leases: writes(include_str!("lua/leases.lua")),
            announce: writes(include_str!("lua/announce.lua")),
            schedulers: Script::new(&[READS, TIME, include_str!("lua/schedulers.lua")]),
            changes: reads(include_str!("lua/changes.lua")),
            history: reads(include_str!("lua/history.lua")),
            jobs: reads(include_str!("lua/jobs.lua")),
            specs: reads(include_str!("lua/specs.lua")),
            executors: reads(include_str!("lua/executors.lua")),
            page: reads(include_str!("lua/page.lua")),
        }
    }
}
