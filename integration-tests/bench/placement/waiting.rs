//! Who decides when pods come, wait and go: a policy that is asked for one pod at a time. In the order of arrival,
//! whatever fits is placed as soon as it does, past those that wait.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::cluster::{Cluster, Devices};
use crate::policies::{Ask, Policy};
use crate::workload::Workload;

/// Pods that come, wait and go, by number.
pub trait Waiting {
    /// A pod of a shape has come; tells which start now.
    fn arrive(&mut self, pod: usize, shape: usize, now_ms: u64) -> Vec<usize>;

    /// A pod has ended; tells which start now.
    fn depart(&mut self, pod: usize, now_ms: u64) -> Vec<usize>;
}

/// A policy that is asked for one pod at a time.
pub struct OneByOne<'a> {
    cluster: &'a mut Cluster,
    workload: &'a Workload,
    policy: &'a mut dyn Policy,
    /// By shape, those that wait, the first to come first.
    waiting: BTreeMap<usize, VecDeque<usize>>,
    /// Shape and place of those that run.
    running: HashMap<usize, (usize, usize, Devices)>,
}

impl<'a> OneByOne<'a> {
    /// Nobody has come yet.
    pub fn new(cluster: &'a mut Cluster, workload: &'a Workload, policy: &'a mut dyn Policy) -> Self {
        Self { cluster, workload, policy, waiting: BTreeMap::new(), running: HashMap::new() }
    }

    fn start(&mut self, pod: usize, id: usize, node: usize) {
        let shape = self.workload.shapes[id];
        let devices = self.policy.devices(&shape, &self.cluster.nodes[node]);
        self.cluster.place(node, &shape, devices);
        self.running.insert(pod, (id, node, devices));
    }
}

impl Waiting for OneByOne<'_> {
    fn arrive(&mut self, pod: usize, id: usize, _: u64) -> Vec<usize> {
        // Where one of its shape waits, there is no room: it was looked for, and after each departure again.
        let node = if self.waiting.contains_key(&id) {
            None
        } else {
            self.policy.choose(Ask { id, shape: self.workload.shapes[id] }, self.cluster)
        };
        match node {
            Some(node) => {
                self.start(pod, id, node);
                vec![pod]
            }
            None => {
                self.waiting.entry(id).or_default().push_back(pod);
                Vec::new()
            }
        }
    }

    /// Places what waits on the node that has got room: there is none elsewhere for any of them.
    fn depart(&mut self, pod: usize, _: u64) -> Vec<usize> {
        let Some((id, node, devices)) = self.running.remove(&pod) else { return Vec::new() };
        self.cluster.remove(node, &self.workload.shapes[id], devices);
        let mut started = Vec::new();
        loop {
            let fits = |id: &usize| self.cluster.nodes[node].fits(&self.workload.shapes[*id]);
            let fitting = self.waiting.iter_mut().filter(|(id, _)| fits(id));
            let Some((id, pods)) = fitting.min_by_key(|(_, pods)| pods.front().copied()) else {
                return started;
            };
            let (id, first) = (*id, pods.pop_front());
            if pods.is_empty() {
                self.waiting.remove(&id);
            }
            if let Some(first) = first {
                self.start(first, id, node);
                started.push(first);
            }
        }
    }
}
