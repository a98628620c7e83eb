//! Bugs put into a copy of the sources on purpose, to see whether the history checker finds them over the
//! simulation. All of them are compiled into one program, each behind a switch that the environment
//! throws; the product's own sources know nothing of it.

mod list;
mod scripts;

pub use list::MUTANTS;
pub use scripts::SCRIPT_MUTANTS;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Names the bug that is switched on.
pub const VARIABLE: &str = "BERTH_MUTANT";
/// Stands for the switch in a replacement that does not replace the whole of the old text.
const TOKEN: &str = "MUTANT";
/// What the copy needs of the tree.
const PARTS: [&str; 8] =
    ["Cargo.toml", "Cargo.lock", "build.rs", "proto", "src", "services", "integration-tests", "deploy/job"];

/// A bug.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    /// Its name.
    pub name: &'static str,
    /// What it makes the cluster do.
    pub about: &'static str,
    /// Where it is.
    pub edits: &'static [Edit],
}

/// One place of a bug: a text that a file has once, and what stands there instead.
#[derive(Debug, Clone, Copy)]
pub struct Edit {
    /// The file, from the root of the tree.
    pub file: &'static str,
    /// What the file has.
    pub old: &'static str,
    /// An expression or a statement instead; or, with the token `MUTANT` for the switch, the whole text.
    pub new: &'static str,
}

impl Edit {
    /// The text of the file with the bug in it, behind its switch.
    ///
    /// # Errors
    /// Fails when the file does not have the old text exactly once.
    pub fn applied(&self, content: &str, name: &str) -> Result<String, String> {
        let found = content.matches(self.old).count();
        if found != 1 {
            return Err(format!("{name}: {} has its text {found} times: {}", self.file, self.old));
        }
        let switch = format!("std::env::var_os({VARIABLE:?}).is_some_and(|on| on == {name:?})");
        let new = if self.new.contains(TOKEN) {
            self.new.replace(TOKEN, &switch)
        } else if self.old.ends_with([';', '}']) {
            format!("if {switch} {{ {} }} else {{ {} }}", self.new, self.old)
        } else {
            format!("(if {switch} {{ {} }} else {{ {} }})", self.new, self.old)
        };
        Ok(content.replacen(self.old, &new, 1))
    }
}

/// Makes a copy of what is needed of a tree, with every bug of the list in it, each behind its switch.
///
/// # Errors
/// Fails where a bug no longer finds its place, and as the disk does.
pub fn plant(from: &Path, to: &Path) -> Result<(), String> {
    copy(from, to, &edited(from)?).map_err(|error| error.to_string())
}

/// The files of a tree that have bugs, with all of these in them.
fn edited(root: &Path) -> Result<Edited, String> {
    let mut edited: Edited = BTreeMap::new();
    for mutant in MUTANTS.iter().chain(SCRIPT_MUTANTS) {
        for edit in mutant.edits {
            let path = PathBuf::from(edit.file);
            let content = match edited.remove(&path) {
                Some(content) => content,
                None => fs::read_to_string(root.join(&path)).map_err(|e| format!("{}: {e}", edit.file))?,
            };
            edited.insert(path, edit.applied(&content, mutant.name)?);
        }
    }
    Ok(edited)
}

/// Makes a copy of what is needed of a tree, as it is.
///
/// # Errors
/// Fails as the disk does.
pub fn copy_plain(from: &Path, to: &Path) -> io::Result<()> {
    copy(from, to, &BTreeMap::new())
}

/// Files with another content than they have, by their path from the root.
type Edited = BTreeMap<PathBuf, String>;

/// Files that are there already and the same are left as they are, so that they are not compiled again.
fn copy(from: &Path, to: &Path, edited: &Edited) -> io::Result<()> {
    let mut wanted = BTreeSet::new();
    for part in PARTS {
        list(from, Path::new(part), &mut wanted)?;
    }
    for path in &wanted {
        let content = match edited.get(path) {
            Some(content) => content.clone().into_bytes(),
            None => fs::read(from.join(path))?,
        };
        if fs::read(to.join(path)).is_ok_and(|known| known == content) {
            continue;
        }
        fs::create_dir_all(to.join(path).parent().unwrap_or(to))?;
        fs::write(to.join(path), content)?;
    }
    let mut there = BTreeSet::new();
    for part in PARTS {
        list(to, Path::new(part), &mut there)?;
    }
    for path in there.difference(&wanted) {
        fs::remove_file(to.join(path))?;
    }
    Ok(())
}

/// Lists the files of a part of a tree.
fn list(root: &Path, part: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    let path = root.join(part);
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            if name != "target" {
                list(root, &part.join(name), found)?;
            }
        }
    } else if path.exists() {
        found.insert(part.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_finds_its_place_and_has_a_name_of_its_own() {
        let all = MUTANTS.iter().chain(SCRIPT_MUTANTS);
        let names: BTreeSet<&str> = all.map(|mutant| mutant.name).collect();
        assert_eq!(names.len(), MUTANTS.len() + SCRIPT_MUTANTS.len(), "no name is there twice");
        assert!(names.len() >= 30, "there are {} bugs", names.len());
        let edited = edited(crate::tools::root()).unwrap_or_else(|error| panic!("{error}"));
        for name in names {
            let is_there = edited.values().any(|content| content.contains(&format!("on == {name:?}")));
            assert!(is_there, "{name} is behind its switch");
        }
    }

    #[test]
    fn a_bug_of_a_script_finds_its_place_in_it() {
        let folder = crate::tools::root().join("services/store/src/redis/lua");
        let scripts =
            ["commit.lua", "lock.lua"].map(|name| fs::read_to_string(folder.join(name)).expect(name));
        for mutant in SCRIPT_MUTANTS {
            let [edit] = mutant.edits else { panic!("{} is one edit", mutant.name) };
            let old = edit.new.split("replacen(\"").nth(1).and_then(|rest| rest.split("\", \"").next());
            let old = old.unwrap_or_else(|| panic!("{} replaces a text", mutant.name));
            let found: usize = scripts.iter().map(|script| script.matches(old).count()).sum();
            assert_eq!(found, 1, "{}: {old}", mutant.name);
        }
    }

    #[test]
    fn a_bug_is_an_expression_or_a_statement_behind_its_switch() {
        let switch = "std::env::var_os(\"BERTH_MUTANT\").is_some_and(|on| on == \"m\")";
        let applied = |old, new| Edit { file: "f", old, new }.applied("if a < b { c(); }", "m");
        assert_eq!(
            applied("a < b", "true"),
            Ok(format!("if (if {switch} {{ true }} else {{ a < b }}) {{ c(); }}"))
        );
        assert_eq!(
            applied("c();", "d();"),
            Ok(format!("if a < b {{ if {switch} {{ d(); }} else {{ c(); }} }}"))
        );
        assert_eq!(applied("a < b", "a < b && !MUTANT"), Ok(format!("if a < b && !{switch} {{ c(); }}")));
        assert!(applied("x", "y").is_err(), "it has no such text");
    }
}
