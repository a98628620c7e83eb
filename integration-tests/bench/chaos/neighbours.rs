//! Containers on the machine's engine that are none of the executors': nothing may end them.

use berth_domain::ids::{AttemptRef, JobId};
use berth_integration_tests::docker;
use berth_integration_tests::history::Run;

/// What they call their job.
pub const JOB: &str = "neighbour";
/// What is known of one that is gone.
const GONE: i32 = -1;
/// So often is asked whether one runs, since an engine may be slow to answer.
const ASKED: usize = 3;

/// Some of another cluster that has an executor of the same name, and of another executor of this one.
pub struct Neighbours(Vec<(String, String)>);

impl Neighbours {
    /// Starts them.
    pub fn settle(cluster: &str) -> Self {
        let other = format!("{cluster}-other");
        let all = [(other.as_str(), "executor-1"), (cluster, "another-executor")];
        let start = |(cluster, executor): (&str, &str)| {
            let label = |key: &str, value: &str| ["--label".to_owned(), format!("berth.{key}={value}")];
            let labels = [
                label("cluster", cluster),
                label("executor", executor),
                label("job", JOB),
                label("attempt", "1"),
                label("epoch", "1"),
            ];
            let labels: Vec<&str> = labels.iter().flatten().map(String::as_str).collect();
            let (before, after) =
                (["run", "-d", "--network", "none"], [docker::IMAGE, "sh", "-c", "sleep 100000"]);
            (docker::docker_ok(&[&before[..], &labels, &after].concat()), executor.to_owned())
        };
        Self(all.into_iter().map(start).collect())
    }

    /// What became of them.
    pub fn account(&self, now_ms: u64) -> Vec<Run> {
        let account = |(id, executor): &(String, String)| Run {
            attempt: AttemptRef { job: JobId::trusted(JOB), number: 1, epoch: 1 },
            executor: executor.clone(),
            started_ms: 0,
            ended: (!(0..ASKED).any(|_| docker::is_running(id))).then_some((now_ms, GONE)),
        };
        self.0.iter().map(account).collect()
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for (id, _) in &self.0 {
            docker::docker(&["rm", "-f", "-v", id]);
        }
    }
}
