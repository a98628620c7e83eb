//! One call: its guards, then its mutations, each seeing those before it.

use berth_domain::ids::SessionId;

use super::apply::{Applied, Refusal, Rules};
use super::head::{Head, after};
use super::tables::Tables;
use crate::{Call, Change, LeaseRenewal, StoreError, Verdict};

/// What a call did.
pub(crate) struct Outcome {
    pub(crate) verdicts: Vec<Verdict>,
    /// With their revisions, to be logged as one entry.
    pub(crate) changes: Vec<(u64, Change)>,
}

/// Applies a call to the head and the tables. `full` says whether there is no room for new jobs.
///
/// # Errors
/// Fails when a guard does not hold; then nothing was written. Fails when the tables do; then the
/// caller drops what was written to both.
pub(crate) fn commit(
    head: &mut Head,
    tables: &mut impl Tables,
    call: &Call,
    now_ms: u64,
    full: bool,
) -> Result<Outcome, StoreError> {
    if call.generation.is_some_and(|generation| generation != head.generation) {
        return Err(StoreError::Generation { current: head.generation });
    }
    if call.leader.as_ref().is_some_and(|guard| !head.is_leader(guard)) {
        return Err(StoreError::Fenced);
    }
    if full && call.is_submit_only() {
        return Err(StoreError::Full);
    }
    let mut outcome = Outcome { verdicts: Vec::with_capacity(call.mutations.len()), changes: Vec::new() };
    let mut rules = Rules { head, tables, now_ms };
    for mutation in &call.mutations {
        let verdict = match rules.apply(mutation) {
            Ok(Applied::Change(change)) => {
                outcome.changes.push((rules.head.revision, change));
                Verdict::Applied(rules.head.revision)
            }
            Ok(Applied::Existing(job_id)) => Verdict::Existing(job_id),
            Err(Refusal::Conflict(conflict)) => Verdict::Conflict(conflict),
            Err(Refusal::Broken(error)) => return Err(error),
        };
        outcome.verdicts.push(verdict);
    }
    Ok(outcome)
}

/// Renews the leases of executors whose session, as `session` reads it, is still the given one.
///
/// # Errors
/// Fails when `session` does; then some leases may have been renewed, which is harmless.
pub(crate) fn renew_leases(
    head: &mut Head,
    renewals: &[LeaseRenewal],
    now_ms: u64,
    session: impl Fn(&LeaseRenewal) -> Result<Option<SessionId>, StoreError>,
) -> Result<Vec<bool>, StoreError> {
    let mut renew = |renewal: &LeaseRenewal| {
        let current = session(renewal)?.as_ref() == Some(&renewal.session);
        if current {
            head.leases.insert(renewal.executor.clone(), after(now_ms, renewal.lease));
        }
        Ok(current)
    };
    renewals.iter().map(&mut renew).collect()
}
