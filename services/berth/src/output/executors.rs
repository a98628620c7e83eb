//! Executors as people read them.

use berth_api::v1::{Executor, Resources};
use berth_domain::quantity::{show_cpus, show_memory};
use jiff::Timestamp;

use super::age::{instant, since};
use super::{names, table};

/// Lays out executors, one line each: what is reserved of what there is.
pub fn list(executors: &[Executor], wide: bool, now: Timestamp) -> String {
    let mut header = vec!["ID", "STATE", "JOBS", "CPUS", "MEMORY", "GPUS", "SEEN"];
    if wide {
        header.extend(["VERSION", "ADDRESS", "GPU MODELS", "LABELS", "WHY"]);
    }
    let rows: Vec<Vec<String>> = executors.iter().map(|executor| row(executor, wide, now)).collect();
    table(&header, &rows)
}

fn row(executor: &Executor, wide: bool, now: Timestamp) -> Vec<String> {
    let none = Resources::default();
    let capacity = executor.capacity.as_ref().unwrap_or(&none);
    let reserved = executor.reserved.as_ref().unwrap_or(&none);
    let cpus = |resources: &Resources| show_cpus(amount(resources.cpu_millis));
    let memory = |resources: &Resources| show_memory(amount(resources.memory_bytes));
    let mut row = vec![
        executor.id.clone(),
        names::executor_state(executor).to_owned(),
        executor.running_job_count.to_string(),
        format!("{}/{}", cpus(reserved), cpus(capacity)),
        format!("{}/{}", memory(reserved), memory(capacity)),
        format!("{}/{}", reserved.gpu_count, capacity.gpu_count),
        since(instant(executor.heartbeat_time.as_ref()), now),
    ];
    if wide {
        row.extend([
            or_dash(executor.version.clone()),
            or_dash(executor.address.clone()),
            or_dash(models(executor)),
            or_dash(executor.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")),
            or_dash(executor.not_ready.clone()),
        ]);
    }
    row
}

fn models(executor: &Executor) -> String {
    let mut models: Vec<&str> = executor.gpus.iter().map(|gpu| gpu.model.as_str()).collect();
    models.sort_unstable();
    models.dedup();
    models.join(",")
}

fn amount(amount: i64) -> u64 {
    u64::try_from(amount).unwrap_or(0)
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_api::v1::ExecutorState;

    #[test]
    fn a_list_shows_what_is_reserved_of_what_there_is() {
        let executor = Executor {
            id: "executor-1".into(),
            state: ExecutorState::Active.into(),
            capacity: Some(Resources {
                cpu_millis: 8_000,
                memory_bytes: 16 << 30,
                gpu_count: 4,
                ..Default::default()
            }),
            reserved: Some(Resources { cpu_millis: 1_500, memory_bytes: 512 << 20, ..Default::default() }),
            running_job_count: 1,
            heartbeat_time: Some(prost_types::Timestamp { seconds: 97, nanos: 0 }),
            ..Default::default()
        };
        let now = Timestamp::from_second(100).expect("is in range");
        assert_eq!(
            list(&[executor], false, now),
            "ID          STATE   JOBS  CPUS   MEMORY      GPUS  SEEN\n\
             executor-1  ACTIVE  1     1.5/8  512Mi/16Gi  0/4   3s\n"
        );
    }
}
