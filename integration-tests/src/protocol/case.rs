//! A case: which jobs there are, how much trouble there may be, and, for the tests of the check itself,
//! which rule of the protocol is left out. And the cases that are looked at: pairs of jobs under a little
//! trouble, which share leaders, executors and sessions; and single jobs under much of it.

use berth_domain::spec::OnLost::{self, Fail, Hold, Retry};

use super::state::{JOBS, Troubles};

/// How much there may be of everything that could go on for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Attempts of a job.
    pub attempts: u8,
    /// Times that the lock is taken; the first leader has epoch 1.
    pub epochs: u8,
    /// Everything that goes wrong.
    pub troubles: Troubles,
}

/// A rule of the protocol that is left out, to see that the check notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weakness {
    /// None: the protocol as it is.
    #[default]
    None,
    /// The store does not compare a leader's epoch with the lock's.
    NoEpochCheck,
    /// The store does not compare the record with the one the decision was made from.
    NoRecordCheck,
    /// Neither the decision nor the store compares a report's attempt with the current one.
    NoAttemptCheck,
    /// The store does not compare a report's session with the executor's current one.
    NoSessionCheck,
    /// A job that may start once is put back when its executor is lost.
    FailStartsAgain,
    /// A job on hold is put back when its executor is lost, though nobody has fenced it.
    HoldIsPutBack,
    /// Sessions tell of an assignment before the store has it.
    ToldBeforeCommit,
    /// Reports are answered before the store has them.
    NotedBeforeCommit,
    /// An executor takes a container that it stopped for one that succeeded.
    StopIsSuccess,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// A name for people.
    pub name: &'static str,
    /// What becomes of each job when its executor is lost, and how often its own failures are retried;
    /// `None` for a job that does not exist.
    pub jobs: [Option<(OnLost, u32)>; JOBS],
    /// How much trouble there may be.
    pub bounds: Bounds,
    /// What is left out.
    pub weakness: Weakness,
}

impl Case {
    /// The same case without a rule.
    pub fn without(self, weakness: Weakness) -> Self {
        Self { weakness, ..self }
    }

    /// Says whether a job of the case has this wish.
    pub fn has(&self, wish: OnLost) -> bool {
        self.jobs.iter().flatten().any(|(on_lost, _)| *on_lost == wish)
    }
}

const CALM: Troubles = Troubles { verdicts: 0, breaks: 0, kills: 0, outages: 0, aborts: 0, stalls: 0 };

/// Cases that take a minute or two, optimised, on two cores.
pub fn many() -> Vec<Case> {
    let lost = Troubles { verdicts: 1, ..CALM };
    let broken = Troubles { breaks: 1, ..lost };
    let late = Troubles { stalls: 1, ..lost };
    let killed = Troubles { kills: 1, ..broken };
    let off = Troubles { outages: 1, ..broken };
    let killed_once = Troubles { kills: 1, ..CALM };
    let all_but_kills = Troubles { aborts: 1, stalls: 1, ..off };
    vec![
        pair("retry and fail", [(Retry, 0), (Fail, 0)], (2, 2), lost),
        pair("retry and hold", [(Retry, 0), (Hold, 0)], (2, 2), lost),
        pair("fail and hold", [(Fail, 0), (Hold, 0)], (2, 2), broken),
        pair("fail and hold, late commits", [(Fail, 0), (Hold, 0)], (2, 2), late),
        pair(
            "retry and hold, kills",
            [(Retry, 0), (Hold, 0)],
            (2, 1),
            Troubles { verdicts: 1, ..killed_once },
        ),
        pair("fail and hold, kills", [(Fail, 0), (Hold, 0)], (2, 1), killed),
        pair("retry and fail, outages", [(Retry, 0), (Fail, 0)], (2, 1), Troubles { outages: 1, ..lost }),
        single("retry, late commits", (Retry, 0), (2, 2), Troubles { stalls: 1, ..killed }),
        single("retry, aborts and outages", (Retry, 0), (2, 1), all_but_kills),
        single("retry, three attempts", (Retry, 0), (3, 2), Troubles { verdicts: 2, ..CALM }),
        single("retry, failures of its own", (Retry, 1), (3, 2), broken),
        single("fail, everything", (Fail, 0), (2, 2), Troubles { kills: 1, ..all_but_kills }),
        single("hold, outages and late commits", (Hold, 0), (2, 2), Troubles { stalls: 1, ..off }),
        single("hold, aborts and outages", (Hold, 0), (2, 1), all_but_kills),
        single("hold, kills and late commits", (Hold, 0), (2, 2), Troubles { stalls: 1, ..killed }),
        single("hold, failures of its own", (Hold, 1), (2, 2), off),
    ]
}

/// Cases that take seconds without optimisation.
pub fn few() -> Vec<Case> {
    let broken = Troubles { verdicts: 1, breaks: 1, ..CALM };
    vec![
        pair("fail and hold", [(Fail, 0), (Hold, 0)], (2, 1), Troubles { verdicts: 1, ..CALM }),
        single("retry", (Retry, 0), (2, 2), Troubles { verdicts: 1, ..CALM }),
        single("retry, aborts", (Retry, 0), (2, 1), Troubles { verdicts: 1, aborts: 1, ..CALM }),
        single("fail", (Fail, 0), (2, 2), broken),
        single("hold", (Hold, 0), (2, 2), broken),
        single("hold, outages", (Hold, 0), (2, 1), Troubles { verdicts: 1, outages: 1, ..CALM }),
    ]
}

/// Cases in which the futures of states that are taken for one are compared, smallest first: a minute,
/// optimised.
pub fn alike() -> Vec<Case> {
    let lost = Troubles { verdicts: 1, ..CALM };
    let broken = Troubles { breaks: 1, ..lost };
    let late = Troubles { stalls: 1, ..CALM };
    vec![
        single("retry", (Retry, 0), (2, 1), lost),
        single("hold, outages", (Hold, 0), (2, 1), Troubles { outages: 1, ..CALM }),
        single("fail, aborts and late commits", (Fail, 0), (1, 1), Troubles { aborts: 1, ..late }),
        single("hold", (Hold, 0), (2, 2), broken),
        single("fail", (Fail, 0), (2, 2), broken),
        single("fail, kills", (Fail, 0), (1, 1), Troubles { kills: 1, verdicts: 1, aborts: 1, ..late }),
        single("hold, late commits", (Hold, 0), (2, 1), Troubles { outages: 1, ..late }),
    ]
}

/// A case of one job, with its most attempts and epochs.
pub fn single(name: &'static str, job: (OnLost, u32), most: (u8, u8), troubles: Troubles) -> Case {
    of(name, [Some(job), None], most, troubles)
}

fn pair(name: &'static str, jobs: [(OnLost, u32); JOBS], most: (u8, u8), troubles: Troubles) -> Case {
    of(name, jobs.map(Some), most, troubles)
}

fn of(name: &'static str, jobs: [Option<(OnLost, u32)>; JOBS], most: (u8, u8), troubles: Troubles) -> Case {
    let bounds = Bounds { attempts: most.0, epochs: most.1, troubles };
    Case { name, jobs, bounds, weakness: Weakness::None }
}
