//! How long a job has waited in the queue. The clock runs only while a leader leads and no
//! quarantine holds the cluster, so pauses are taken out.

/// Periods in which the queue clock stands still: (from, to), in milliseconds, oldest first.
pub type Pauses = [(u64, u64)];

/// Computes how long the queue clock has run since `ready_ms`.
pub fn waited_ms(ready_ms: u64, now_ms: u64, pauses: &Pauses) -> u64 {
    let paused: u64 =
        pauses.iter().map(|&(from, to)| to.min(now_ms).saturating_sub(from.max(ready_ms))).sum();
    now_ms.saturating_sub(ready_ms).saturating_sub(paused)
}

/// Computes when a job that became ready at `ready_ms` will have waited `limit_ms`, if nothing pauses the
/// clock from now on. The result is never before the true moment.
pub fn deadline_ms(ready_ms: u64, limit_ms: u64, now_ms: u64, pauses: &Pauses) -> u64 {
    let left = limit_ms.saturating_sub(waited_ms(ready_ms, now_ms, pauses));
    now_ms.saturating_add(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_stands_still_without_a_leader() {
        assert_eq!(waited_ms(1_000, 16_000, &[]), 15_000);
        assert_eq!(waited_ms(1_000, 16_000, &[(5_000, 9_000)]), 11_000);
        assert_eq!(waited_ms(1_000, 16_000, &[(0, 2_000), (15_000, 20_000)]), 13_000);
        assert_eq!(waited_ms(1_000, 500, &[]), 0, "a clock that steps back counts as no time");
        assert_eq!(deadline_ms(1_000, 15_000, 2_000, &[]), 16_000);
    }
}
