//! Who gets which container, and when it goes.

use super::*;

fn kind() -> Kind {
    Kind {
        image_id: "sha256:1".into(),
        namespace: Namespace::trusted("team"),
        network: Network::None,
        cpu_millis: 1_000,
        memory_bytes: 64 << 20,
        working_dir: String::new(),
        boot_id: "boot".into(),
    }
}

fn container(id: &str) -> Container {
    Container { id: id.into(), pid: 1, entrypoint: Vec::new() }
}

/// A pool that is told what happens at a time that only the test moves.
struct Play {
    pool: Pool,
    now: Instant,
}

impl Play {
    fn begin() -> Self {
        let mut pool = Pool::default();
        pool.open();
        Self { pool, now: Instant::now() }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn take(&mut self) -> Taken {
        self.pool.take(&kind(), self.now)
    }

    /// A job finds none free, and one is made.
    fn made(&mut self, id: &str) {
        assert_eq!(self.take(), Taken::Make);
        self.pool.made(kind(), container(id), self.now);
    }

    fn takes(&mut self, id: &str) {
        assert_eq!(self.take(), Taken::Have(container(id)));
    }

    /// The container's job ends, and leaves nothing.
    fn ends(&mut self, id: &str) {
        assert!(self.pool.ended(id, self.now));
        self.pool.is_clean(id, self.now);
    }

    fn removals(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Work::Remove(id) = self.pool.next(self.now) {
            all.push(id);
        }
        all.sort();
        all
    }
}

#[test]
fn one_container_has_one_job_at_a_time() {
    let mut play = Play::begin();
    play.made("1");
    play.made("2");
    play.ends("1");
    play.takes("1");
    assert_eq!(play.take(), Taken::Make);
    assert_eq!(play.removals(), [] as [&str; 0]);
}

#[test]
fn only_what_is_alike_in_everything_shares_a_container() {
    let mut play = Play::begin();
    play.made("1");
    play.ends("1");
    let others = [
        Kind { image_id: "sha256:2".into(), ..kind() },
        Kind { namespace: Namespace::trusted("other"), ..kind() },
        Kind { network: Network::Bridge, ..kind() },
        Kind { cpu_millis: 2_000, ..kind() },
        Kind { memory_bytes: 65 << 20, ..kind() },
        Kind { working_dir: "/w".into(), ..kind() },
        Kind { boot_id: "next".into(), ..kind() },
    ];
    for other in others {
        assert_eq!(play.pool.take(&other, play.now), Taken::Make, "{other:?}");
    }
    play.takes("1");
}

#[test]
fn a_container_is_given_only_once_nothing_is_left_of_the_job_before() {
    let mut play = Play::begin();
    play.made("1");
    assert!(play.pool.ended("1", play.now), "it is to be looked at");
    assert_eq!(play.take(), Taken::Make);
    play.pool.is_clean("1", play.now);
    play.takes("1");
    play.pool.is_clean("1", play.now);
    assert_eq!(play.take(), Taken::Make, "a job has it, whoever looks");
}

#[test]
fn a_container_in_which_something_is_left_goes() {
    let mut play = Play::begin();
    play.made("1");
    play.pool.ended("1", play.now);
    play.pool.condemn("1", play.now);
    play.pool.is_clean("1", play.now);
    assert_eq!(play.take(), Taken::Make);
    assert_eq!(play.removals(), ["1"]);
    assert!(!play.pool.ended("1", play.now), "it is none any more");
}

#[test]
fn a_container_is_used_a_hundred_times() {
    let mut play = Play::begin();
    play.made("1");
    for _ in 1..MOST_USES {
        play.ends("1");
        play.takes("1");
    }
    assert!(!play.pool.ended("1", play.now), "it is not looked at");
    assert_eq!((play.take(), play.removals()), (Taken::Make, vec!["1".to_owned()]));
}

#[test]
fn a_job_that_used_nothing_does_not_count() {
    let mut play = Play::begin();
    play.made("1");
    for _ in 1..MOST_USES {
        play.ends("1");
        play.takes("1");
    }
    play.pool.unused("1", play.now);
    play.takes("1");
}

#[test]
fn an_old_container_gets_no_job_and_goes() {
    let mut play = Play::begin();
    play.made("1");
    play.made("2");
    play.pass(MOST_AGE - Duration::from_secs(1));
    play.ends("1");
    play.pass(Duration::from_secs(1));
    assert_eq!(play.take(), Taken::Make);
    assert!(!play.pool.ended("2", play.now));
    assert_eq!(play.removals(), ["1", "2"]);
}

#[test]
fn the_one_used_last_is_taken_so_that_those_too_many_go() {
    let mut play = Play::begin();
    play.made("1");
    play.made("2");
    play.ends("1");
    play.pass(Duration::from_secs(1));
    play.ends("2");
    for _ in 0..6 {
        play.pass(IDLE / 6);
        play.takes("2");
        play.ends("2");
    }
    assert_eq!(play.removals(), ["1"]);
    let Work::Wait(Some(until)) = play.pool.next(play.now) else { panic!("one is left") };
    assert_eq!(until, play.now + IDLE);
    play.pass(IDLE);
    assert_eq!(play.removals(), ["2"]);
    assert_eq!(play.pool.next(play.now), Work::Wait(None));
}

#[test]
fn those_without_a_job_are_bounded_and_the_oldest_goes_first() {
    let mut play = Play::begin();
    for id in 0..=MOST_IDLE {
        play.made(&id.to_string());
    }
    for id in 0..=MOST_IDLE {
        play.pass(Duration::from_millis(1));
        play.ends(&id.to_string());
    }
    assert_eq!(play.removals(), ["0"]);
}

#[test]
fn after_a_refusal_jobs_of_the_kind_get_containers_of_their_own_for_a_while() {
    let mut play = Play::begin();
    assert!(play.pool.refuse(&kind(), play.now));
    assert!(!play.pool.refuse(&kind(), play.now), "it was told");
    assert_eq!(play.take(), Taken::Not);
    let other = Kind { image_id: "sha256:2".into(), ..kind() };
    assert_eq!(play.pool.take(&other, play.now), Taken::Make);
    play.pass(PAUSE);
    play.made("1");
    assert!(play.pool.refuse(&kind(), play.now), "it had been well");
}

#[test]
fn what_could_not_be_removed_is_removed_later() {
    let mut play = Play::begin();
    play.pool.not_removed("1".into(), Pool::again(play.now));
    assert_eq!(play.pool.next(play.now), Work::Wait(Some(play.now + AGAIN)));
    play.pass(AGAIN);
    assert_eq!(play.removals(), ["1"]);
}

#[test]
fn a_closed_pool_gives_none_and_lets_go_of_all() {
    let mut play = Play::begin();
    assert_eq!(Pool::default().take(&kind(), play.now), Taken::Not);
    play.made("1");
    play.made("2");
    play.ends("2");
    play.pool.not_removed("3".into(), play.now);
    assert_eq!(play.pool.close(), ["1", "2", "3"]);
    assert_eq!(play.take(), Taken::Not);
    assert!(!play.pool.ended("1", play.now), "what still runs ends with its container");
}
