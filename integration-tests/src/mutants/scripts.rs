//! Bugs of the scripts that run in Redis.

use super::Mutant;
use super::list::edit;

const SCRIPTS: &str = "services/store/src/redis/scripts.rs";
/// How the scripts of commits are read; what it becomes has the same text once, so that the next bug finds it, too.
const COMMIT_SCRIPT: &str = "let commit = include_str!(\"lua/commit.lua\");";
/// The same of the script of the lock.
const LOCK_SCRIPT: &str = "lock: writes(include_str!(\"lua/lock.lua\")),";

/// Leaves a call out of the script of commits.
macro_rules! commit_without {
    ($call:literal) => {
        edit(
            SCRIPTS,
            COMMIT_SCRIPT,
            concat!(
                "let commit = include_str!(\"lua/commit.lua\");\n        let commit = if MUTANT { &*commit.replacen(\"",
                $call,
                "\", \"\", 1).leak() } else { commit };"
            ),
        )
    };
}

/// Bugs of the scripts that run in Redis, which the simulation has no Redis for: real processes show them.
pub const SCRIPT_MUTANTS: &[Mutant] = &[
    Mutant {
        name: "script-leaves-index",
        about: "a job stays in the set that it was in",
        edits: &[commit_without!("move(parts(index).key, id, false)")],
    },
    Mutant {
        name: "script-never-releases",
        about: "what a job held stays reserved",
        edits: &[commit_without!("add_reserved(id, -tonumber(cpu), -tonumber(memory))")],
    },
    Mutant {
        name: "script-epoch-stays",
        about: "the next leader has the epoch of the one before",
        edits: &[edit(
            SCRIPTS,
            LOCK_SCRIPT,
            "lock: writes(if MUTANT {
                &*include_str!(\"lua/lock.lua\").replacen(\"math.max(epoch + 1, now)\", \"math.max(epoch, 1)\", 1).leak()
            } else {
                include_str!(\"lua/lock.lua\")
            }),",
        )],
    },
];
