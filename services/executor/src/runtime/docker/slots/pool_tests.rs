//! What the pool decides, without an engine.

use super::*;
use berth_domain::ids::{AttemptRef, JobId};

use crate::runtime::Owner;

const MOST: usize = 4;

struct Bench {
    pool: Pool,
    now: Instant,
    made: u32,
}

fn name(job: &str) -> ContainerName {
    let owner = Owner { cluster: "c".into(), executor: "e".into() };
    ContainerName::new(&owner, &AttemptRef { job: JobId::trusted(job), number: 1, epoch: 1 })
}

fn team(name: &str) -> Namespace {
    Namespace::trusted(name)
}

fn slot(id: &str) -> Slot {
    let path = |file: &str| format!("/engine/{id}/{file}");
    Slot {
        id: id.to_owned(),
        hosts: path("hosts"),
        resolv_conf: path("resolv.conf"),
        hostname: path("hostname"),
    }
}

impl Bench {
    /// An open pool with so many slots that were never used, named 1, 2, and so on.
    fn with(count: u32) -> Self {
        let mut bench = Self { pool: Pool::default(), now: Instant::now(), made: 0 };
        bench.pool.open(MOST);
        (0..count).for_each(|_| bench.make(Network::Bridge));
        bench
    }

    fn make(&mut self, network: Network) {
        self.made += 1;
        self.pool.made(slot(&self.made.to_string()), network, self.now);
        self.after(Duration::from_millis(1));
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
    }

    fn take(&mut self, job: &str, namespace: &str) -> Option<String> {
        self.take_on(job, namespace, Network::Bridge)
    }

    fn take_on(&mut self, job: &str, namespace: &str, network: Network) -> Option<String> {
        self.pool.take(&name(job), &team(namespace), network, self.now).map(|slot| slot.id.clone())
    }

    fn ended(&mut self, job: &str) {
        self.pool.ended(&name(job), true, self.now);
    }

    fn next(&mut self) -> Work<String> {
        self.pool.next(self.now)
    }

    /// A job takes a slot, ends, and the slot has rested.
    fn used_by(&mut self, job: &str, namespace: &str) -> Option<String> {
        let taken = self.take(job, namespace);
        self.ended(job);
        self.after(REST);
        taken
    }

    fn removes(&mut self, id: &str) {
        assert_eq!(self.next(), Work::Remove(id.to_owned()));
    }

    fn waits(&mut self) {
        assert!(matches!(self.next(), Work::Wait(_)), "nothing is to be done");
    }
}

#[test]
fn a_closed_pool_gives_nothing_and_wants_nothing() {
    let mut bench = Bench { pool: Pool::default(), now: Instant::now(), made: 0 };
    assert_eq!([bench.take("a", "x"), bench.take("b", "x")], [None, None]);
    assert_eq!(bench.next(), Work::Wait(None));
}

#[test]
fn a_slot_has_one_job_at_a_time_and_the_next_only_after_its_end_was_seen() {
    let mut bench = Bench::with(1);
    assert_eq!(bench.take("a", "x"), Some("1".into()));
    assert_eq!(bench.take("b", "x"), None);
    bench.ended("a");
    bench.after(REST);
    assert_eq!(bench.take("b", "x"), Some("1".into()));
    assert_eq!(bench.take("c", "x"), None);
}

#[test]
fn a_slot_rests_between_two_jobs() {
    let mut bench = Bench::with(1);
    bench.take("a", "x");
    bench.ended("a");
    bench.after(REST - Duration::from_millis(1));
    assert_eq!(bench.take("b", "x"), None);
    bench.after(Duration::from_millis(1));
    assert_eq!(bench.take("b", "x"), Some("1".into()));
}

#[test]
fn a_used_slot_is_only_for_its_own_namespace_and_network() {
    let mut bench = Bench::with(1);
    bench.make(Network::None);
    assert_eq!(bench.used_by("a", "x"), Some("1".into()));
    assert_eq!(bench.take("b", "y"), None, "another namespace");
    assert_eq!(bench.take_on("c", "x", Network::None), Some("2".into()), "another network");
    assert_eq!(bench.take("d", "x"), Some("1".into()));
}

#[test]
fn the_slot_that_rested_longest_comes_first_and_fresh_ones_are_kept_for_others() {
    let mut bench = Bench::with(3);
    assert_eq!([bench.take("a", "x"), bench.take("b", "x")], [Some("1".into()), Some("2".into())]);
    bench.ended("b");
    bench.after(REST);
    bench.ended("a");
    bench.after(REST);
    assert_eq!([bench.take("c", "x"), bench.take("d", "x")], [Some("2".into()), Some("1".into())]);
    assert_eq!(bench.take("e", "y"), Some("3".into()));
}

#[test]
fn a_slot_is_destroyed_after_whatever_is_no_plain_end() {
    let mut bench = Bench::with(4);
    for job in ["a", "b", "c", "d"] {
        bench.take(job, "x").expect("there are four");
    }
    bench.pool.ended(&name("a"), false, bench.now);
    bench.pool.doom(&name("b"));
    bench.ended("b");
    bench.pool.gone(&name("c"), bench.now);
    bench.pool.died("4", bench.now);
    for id in ["1", "2", "3"] {
        bench.removes(id);
    }
    bench.waits();
    bench.ended("d");
    bench.removes("4");
    bench.after(REST);
    assert_eq!(bench.take("e", "x"), None);
}

#[test]
fn a_slot_is_destroyed_after_a_hundred_uses_and_when_it_is_old() {
    let mut bench = Bench::with(1);
    for round in 0..MOST_USES {
        assert_eq!(bench.used_by(&format!("a{round}"), "x"), Some("1".into()));
    }
    bench.removes("1");
    bench.make(Network::Bridge);
    bench.take("long", "x");
    bench.after(MOST_AGE);
    bench.ended("long");
    bench.removes("2");
    bench.waits();
}

#[test]
fn a_slot_that_nobody_takes_goes_at_its_time() {
    let mut bench = Bench::with(1);
    let expires = bench.pool.entries[0].expires();
    assert_eq!(bench.next(), Work::Wait(Some(expires)));
    bench.now = expires;
    assert_eq!(bench.take("a", "x"), None);
    bench.removes("1");
    assert_eq!(bench.next(), Work::Wait(None));
}

#[test]
fn an_ended_container_must_not_start_again_until_it_is_gone() {
    let mut bench = Bench::with(1);
    bench.take("a", "x");
    assert!(!bench.pool.has_left(&name("a")));
    bench.ended("a");
    assert!(bench.pool.has_left(&name("a")));
    bench.after(REST);
    bench.take("b", "x");
    bench.pool.gone(&name("a"), bench.now);
    assert!(!bench.pool.has_left(&name("a")));
    bench.waits();
    assert_eq!(bench.take("c", "x"), None, "the slot is the newer one's");
}

#[test]
fn a_container_that_was_not_made_leaves_its_slot_as_it_was() {
    let mut bench = Bench::with(1);
    bench.take("a", "x");
    bench.pool.unused(&name("a"), bench.now);
    assert_eq!(bench.take("b", "y"), Some("1".into()), "no namespace has used it");
}

#[test]
fn a_name_that_may_have_been_made_gets_no_second_slot() {
    let mut bench = Bench::with(2);
    bench.take("a", "x");
    bench.pool.doom(&name("a"));
    assert_eq!(bench.take("a", "x"), None);
    bench.ended("a");
    bench.removes("1");
}

#[test]
fn slots_are_made_for_jobs_that_found_none_while_jobs_keep_coming() {
    let mut bench = Bench::with(0);
    bench.take("lone", "x");
    bench.waits();
    bench.after(BUSY);
    bench.take("another", "x");
    bench.waits();
    bench.take_on("c", "x", Network::None);
    bench.take("d", "x");
    assert_eq!([bench.next(), bench.next()], [Work::Make(Network::None), Work::Make(Network::Bridge)]);
    bench.waits();
    bench.take("e", "x");
    bench.after(STALE);
    bench.waits();
}

#[test]
fn there_are_no_more_slots_than_allowed_but_for_those_of_long_jobs() {
    let mut bench = Bench::with(MOST as u32);
    for job in ["a", "b", "c", "d"] {
        bench.take(job, "x");
    }
    bench.take("e", "x");
    bench.waits();
    bench.after(LONG_JOB - Duration::from_secs(1));
    bench.take("f", "x");
    bench.waits();
    bench.after(Duration::from_secs(1));
    bench.take("g", "x");
    assert_eq!(bench.next(), Work::Make(Network::Bridge));
}

#[test]
fn a_slot_that_nobody_took_of_late_makes_way_for_one_that_was_missed() {
    let mut bench = Bench::with(MOST as u32);
    for job in ["a", "b", "c", "d"] {
        bench.used_by(job, job);
    }
    bench.take("e", "y");
    bench.waits();
    bench.after(GIVE_WAY);
    bench.take("f", "y");
    bench.removes("1");
    assert_eq!(bench.next(), Work::Make(Network::Bridge));
    bench.waits();
}

#[test]
fn nothing_is_made_for_a_while_after_one_could_not_be_and_the_first_is_news() {
    let mut bench = Bench::with(0);
    bench.take("a", "x");
    bench.take("b", "x");
    assert_eq!(bench.next(), Work::Make(Network::Bridge));
    assert!(bench.pool.not_made(bench.now));
    bench.take("c", "x");
    bench.waits();
    bench.after(PAUSE - Duration::from_secs(1));
    bench.take("d", "x");
    bench.waits();
    bench.after(Duration::from_secs(1));
    bench.take("e", "x");
    assert_eq!(bench.next(), Work::Make(Network::Bridge));
    assert!(!bench.pool.not_made(bench.now), "it is known");
}

#[test]
fn what_an_earlier_process_left_goes_once_nobody_is_in_it() {
    let mut bench = Bench::with(0);
    bench.pool.left_over(slot("idle"), None, bench.now);
    bench.pool.left_over(slot("used"), Some(name("a")), bench.now);
    bench.removes("idle");
    bench.waits();
    bench.ended("a");
    bench.removes("used");
    bench.waits();
}

#[test]
fn a_slot_that_could_not_be_removed_is_tried_again_later() {
    let mut bench = Bench::with(0);
    bench.pool.not_removed("1".into(), bench.now);
    assert_eq!(bench.next(), Work::Wait(Some(bench.now + AGAIN)));
    bench.after(AGAIN);
    bench.removes("1");
}

#[test]
fn closing_removes_what_nobody_uses_and_leaves_the_rest_to_its_jobs() {
    let mut bench = Bench::with(3);
    bench.take("a", "x");
    bench.pool.died("2", bench.now);
    let mut closed = bench.pool.close();
    closed.sort();
    assert_eq!(closed, ["2", "3"]);
    assert_eq!(bench.take("b", "x"), None);
    assert_eq!(bench.next(), Work::Wait(None));
}

#[test]
fn a_container_whose_slot_failed_gets_no_other_and_nobody_gets_that_one() {
    let mut bench = Bench::with(2);
    assert_eq!(bench.take("a", "x"), Some("1".into()));
    assert!(!bench.pool.failed(&name("a"), bench.now));
    bench.pool.gone(&name("a"), bench.now);
    assert_eq!(bench.take("a", "x"), None);
    bench.removes("1");
    assert_eq!(bench.take("b", "x"), Some("2".into()));
}

#[test]
fn after_failures_in_a_row_no_slots_are_given_or_made_for_a_pause() {
    let mut bench = Bench::with(4);
    let fail = |bench: &mut Bench, job: &str| {
        bench.take(job, "x").expect("there is one");
        let is_news = bench.pool.failed(&name(job), bench.now);
        bench.pool.gone(&name(job), bench.now);
        is_news
    };
    assert!(!fail(&mut bench, "a") && !fail(&mut bench, "b"));
    bench.take("c", "x");
    bench.pool.started(&name("c"));
    bench.ended("c");
    bench.after(REST);
    bench.make(Network::Bridge);
    bench.make(Network::Bridge);
    bench.make(Network::Bridge);
    assert!(!fail(&mut bench, "d") && !fail(&mut bench, "e"), "one that started was between them");
    assert!(fail(&mut bench, "f"));
    assert_eq!(bench.take("g", "x"), None);
    (0..5).for_each(|_| assert!(matches!(bench.next(), Work::Remove(_))));
    bench.waits();
    bench.after(PAUSE);
    assert!(!fail(&mut bench, "h"), "it is known");
    assert_eq!(bench.take("i", "x"), None);
}
