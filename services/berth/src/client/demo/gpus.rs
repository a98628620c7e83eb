//! Decides beforehand which jobs of the demo no executor has the GPUs for: such a job would only wait.

use berth_api::v1::{Executor, ExecutorState, JobSpec};
use berth_domain::quantity::count_of_gpus;

/// Says why no executor can run a job for want of GPUs, and what to do; `None` where one can, and where
/// there is no executor yet.
pub fn lacking(spec: &JobSpec, executors: &[Executor]) -> Option<String> {
    let needed = spec.resources.as_ref().map_or(0, |resources| resources.gpu_count);
    let present = executors.iter().filter(|executor| executor.state() != ExecutorState::Lost);
    let most = present.map(|executor| executor.capacity.as_ref().map_or(0, |all| all.gpu_count)).max()?;
    if needed <= most {
        return None;
    }
    let needed = if needed == 1 {
        "a GPU".to_owned()
    } else {
        count_of_gpus(u32::try_from(needed).unwrap_or_default())
    };
    Some(format!("No executor has {needed}: give one emulated GPUs, as in EXECUTOR_GPUS=a100:2 berth dev."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_api::v1::Resources;

    fn executor(gpu_count: i32, state: ExecutorState) -> Executor {
        let capacity = Some(Resources { gpu_count, ..Resources::default() });
        Executor { capacity, state: state.into(), ..Executor::default() }
    }

    fn job(gpu_count: i32) -> JobSpec {
        let resources = Some(Resources { gpu_count, ..Resources::default() });
        JobSpec { resources, ..JobSpec::default() }
    }

    #[test]
    fn a_job_lacks_gpus_where_no_present_executor_has_as_many() {
        let one = executor(1, ExecutorState::Active);
        let (none, lost) = (executor(0, ExecutorState::Active), executor(8, ExecutorState::Lost));
        assert_eq!(lacking(&job(0), std::slice::from_ref(&none)), None);
        assert_eq!(lacking(&job(1), &[none.clone(), one.clone()]), None);
        let why = lacking(&job(1), &[none.clone(), lost.clone()]).expect("a lost one does not count");
        assert!(why.starts_with("No executor has a GPU: ") && why.contains("EXECUTOR_GPUS=a100:2"), "{why}");
        let why = lacking(&job(2), &[none, one]).expect("they are not added up");
        assert!(why.starts_with("No executor has 2 GPUs: "), "{why}");
    }

    #[test]
    fn executors_that_are_yet_to_come_may_have_gpus() {
        assert_eq!(lacking(&job(1), &[]), None);
        assert_eq!(lacking(&job(1), &[executor(0, ExecutorState::Lost)]), None);
    }
}
