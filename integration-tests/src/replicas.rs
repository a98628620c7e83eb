//! Several scheduler replicas on one Redis, each on an address of its own, to be killed and started again.

use std::time::Duration;

use crate::cluster::{Cluster, Scheduler, Size};
use crate::http;
use crate::wait::{until, until_within};

/// A cluster whose replicas are numbered from 0.
pub struct Replicas {
    /// The cluster; its own scheduler is replica 0.
    pub cluster: Cluster,
    others: Vec<Scheduler>,
    arguments: Vec<String>,
}

impl Replicas {
    /// Starts replicas on 127.0.0.1, 127.0.0.2 and so on.
    pub fn start(count: usize, arguments: &[&str]) -> Self {
        let first: Vec<&str> = arguments.to_vec();
        let cluster = Cluster::start_with(&first);
        let others = (1..count).map(|index| {
            let listen = format!("127.0.0.{}:0", index + 1);
            let mut all = vec!["--grpc-listen", listen.as_str(), "--http-listen", listen.as_str()];
            all.extend(arguments);
            cluster.another_scheduler(&name(index), &all)
        });
        let others = others.collect();
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { cluster, others, arguments }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// A replica.
    pub fn replica(&self, index: usize) -> &Scheduler {
        if index == 0 { &self.cluster.scheduler } else { &self.others[index - 1] }
    }

    fn replica_mut(&mut self, index: usize) -> &mut Scheduler {
        if index == 0 { &mut self.cluster.scheduler } else { &mut self.others[index - 1] }
    }

    /// The gRPC addresses of all, as BERTH_ADDR and --schedulers take them.
    pub fn addresses(&self) -> Vec<String> {
        (0..self.count()).map(|index| self.replica(index).grpc.clone()).collect()
    }

    /// Adds an executor that knows all replicas.
    pub fn add_executor(&mut self, id: &str, size: Size<'_>, arguments: &[&str]) {
        let addresses = self.addresses().join(",");
        self.cluster.add_executor_at(&addresses, id, size, arguments);
    }

    /// Who leads, as a replica other than `but` knows it: number and epoch.
    pub fn leader_but(&self, but: Option<usize>) -> (usize, i64) {
        let asked = (0..self.count()).find(|index| Some(*index) != but).unwrap_or(0);
        until("one of the replicas leads", || {
            let stats = http::get(&self.replica(asked).http, "/stats");
            let leader = stats["leaderSchedulerId"].as_str()?;
            let index = (0..self.count()).find(|index| name(*index) == leader)?;
            Some((index, stats["leaderEpoch"].as_i64()?))
        })
    }

    /// Who leads: number and epoch.
    pub fn leader(&self) -> (usize, i64) {
        self.leader_but(None)
    }

    /// Kills a replica with SIGKILL.
    pub fn kill(&mut self, index: usize) {
        self.replica_mut(index).process.kill();
    }

    /// Stops a replica in order; gives its exit code.
    pub fn stop(&mut self, index: usize) -> Option<i32> {
        self.replica_mut(index).process.stop()
    }

    /// Waits for the end of a replica that was told to stop; gives its exit code.
    pub fn stopped(&mut self, index: usize) -> Option<i32> {
        self.replica_mut(index).process.ended(Duration::from_secs(30))
    }

    /// Starts a replica again on its addresses, and waits until it is ready.
    pub fn start_again(&mut self, index: usize) {
        let (grpc, http) = (self.replica(index).grpc.clone(), self.replica(index).http.clone());
        let mut all = vec!["--grpc-listen", grpc.as_str(), "--http-listen", http.as_str()];
        all.extend(self.arguments.iter().map(String::as_str));
        let started = self.cluster.another_scheduler(&name(index), &all);
        *self.replica_mut(index) = started;
    }

    /// Stops an executor in order and starts it again; gives its exit code.
    pub fn restart_executor_in_order(&mut self, index: usize) -> Option<i32> {
        let code = self.cluster.executors[index].process.stop();
        self.cluster.restart_executor(index);
        code
    }

    /// Waits until a job has ended, and gives its record.
    pub fn ended(&self, id: &str) -> serde_json::Value {
        let states = ["SUCCEEDED", "FAILED", "ABORTED"];
        until_within(Duration::from_secs(120), &format!("job {id} ends"), || {
            let job = self.cluster.job(id);
            job["state"].as_str().is_some_and(|state| states.contains(&state)).then_some(job)
        })
    }
}

/// The name of a replica.
pub fn name(index: usize) -> String {
    format!("scheduler-{}", index + 1)
}
