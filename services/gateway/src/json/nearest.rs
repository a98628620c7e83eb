//! The nearest known name to a misspelt one, by edit distance.

/// What is longer is no misspelling, and would cost time.
const MAX_CHARS: usize = 64;

/// Finds the known name that `wrong` most likely stands for; `None` when none is near.
pub(crate) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = plain(wrong);
    if wrong.is_empty() || wrong.len() > MAX_CHARS {
        return None;
    }
    known
        .into_iter()
        .map(|name| (distance(&wrong, &plain(name)), name))
        .filter(|(distance, name)| *distance <= limit(wrong.len().min(name.len())))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Half of a short name may be wrong, a third of a long one.
fn limit(chars: usize) -> usize {
    if chars <= 4 { chars / 2 } else { chars / 3 }
}

/// Leaves out what people mix up without meaning another word: case, `_` and `-`.
fn plain(name: &str) -> Vec<char> {
    name.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .map(|c| c.to_ascii_lowercase())
        .take(MAX_CHARS + 1)
        .collect()
}

/// Counts insertions, deletions, replacements and swaps of neighbours (optimal string alignment, a
/// restricted Damerau-Levenshtein distance).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelling_finds_its_name_and_nonsense_finds_none() {
        let known = ["command", "image", "cpus", "env", "display_name"];
        assert_eq!(nearest("comand", known), Some("command"));
        assert_eq!(nearest("iamge", known), Some("image"));
        assert_eq!(nearest("cpu", known), Some("cpus"));
        assert_eq!(nearest("DisplayNam", known), Some("display_name"));
        assert_eq!(nearest("zzzzzz", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }
}
