//! Options that do not apply to what else is asked for. Who gives one expects something of it, so none is ignored.

use std::collections::BTreeSet;
use std::fmt;

use crate::options::{Mode, Variant, Wanted};

/// Why what is asked for cannot be done together, and what to ask for instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// A load where pods do not come and go.
    Load,
    /// How far a round goes where no policy has rounds.
    Round,
    /// An option of policies where rounds are timed.
    OfPolicies(&'static str),
    /// Several seeds where rounds are timed.
    Seeds,
    /// Parts of GPUs where rounds are timed.
    PartsInRounds,
    /// Parts of GPUs in a queue of Berth's jobs, which ask for whole ones.
    PartsInQueue,
}

impl Misfit {
    /// Looks for one; `given` are the options that stand on the command line.
    pub fn of(wanted: &Wanted, given: &BTreeSet<String>) -> Option<Self> {
        let is_frac = wanted.variant == Variant::Frac;
        let has_queue = wanted.policies.iter().any(|kind| kind.own_queue().is_some());
        match wanted.mode {
            Mode::Online | Mode::Batch | Mode::Rounds if given.contains("--load") => Some(Self::Load),
            Mode::Rounds => {
                let of_policies =
                    ["--policy", "--round", "--plot"].into_iter().find(|option| given.contains(*option));
                let seeds = (wanted.seeds.0 != wanted.seeds.1).then_some(Self::Seeds);
                of_policies.map(Self::OfPolicies).or(seeds).or(is_frac.then_some(Self::PartsInRounds))
            }
            Mode::Online if given.contains("--round") => Some(Self::Round),
            Mode::Batch | Mode::Dynamic(_) if given.contains("--round") && !has_queue => Some(Self::Round),
            Mode::Batch | Mode::Dynamic(_) => (is_frac && has_queue).then_some(Self::PartsInQueue),
            Mode::Online => None,
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load => f.write_str("--load is for --mode dynamic: ask for that, or leave --load out"),
            Self::Round => f.write_str(
                "--round is for ours and ours-untold in --mode batch and dynamic: ask for these, or leave it out",
            ),
            Self::OfPolicies(option) => {
                write!(f, "--mode rounds times whole rounds of ours, and draws nothing: leave {option} out")
            }
            Self::Seeds => f.write_str("--mode rounds draws by one seed: name one, such as --seeds 3"),
            Self::PartsInRounds => {
                f.write_str("--mode rounds knows only whole GPUs: leave --variant frac out")
            }
            Self::PartsInQueue => f.write_str(
                "In --mode batch and dynamic, jobs of ours and ours-untold ask for whole GPUs: with --variant \
                 frac, name other policies by --policy",
            ),
        }
    }
}
