//! `berth status`: shows the cluster.

use berth_api::v1::{GetClusterInfoRequest, GetClusterInfoResponse, Scheduler};
use berth_domain::job::{JOB_STATES, JobState};
use jiff::Timestamp;

use super::connection::{Connection, cluster};
use crate::output::{self, Format, Forms, age, fields, json, table};

/// How to show the cluster.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Shows who leads, which replicas there are, what the store promises and how many jobs there are.
///
/// # Errors
/// Fails as the call and the output do.
pub async fn execute(connection: &Connection, args: Args) -> anyhow::Result<u8> {
    let info = connection
        .call(|channel| async move { cluster(channel).get_cluster_info(GetClusterInfoRequest {}).await })
        .await?;
    let now = age::now();
    let forms = Forms {
        table: &|_wide| overview(&info, now),
        json: &|| Ok(json::render("berth.v1.GetClusterInfoResponse", &info)),
    };
    output::print_one(args.output, &info.cluster_id, &forms)?;
    Ok(0)
}

fn overview(info: &GetClusterInfoResponse, now: Timestamp) -> String {
    let leader = match &info.leader {
        Some(leader) if !leader.scheduler_id.is_empty() => {
            format!("{} (epoch {})", leader.scheduler_id, leader.epoch)
        }
        Some(_) | None => "none; jobs wait until a scheduler leads".to_owned(),
    };
    let store = info.store.as_ref().map(|store| {
        let durability =
            if store.durability.is_empty() { String::new() } else { format!(", {}", store.durability) };
        format!("{}{durability} (generation {})", store.kind, store.generation)
    });
    let count = |state: JobState| format!("{} {}", info.counts.get(state.name()).unwrap_or(&0), state.name());
    let counts: Vec<String> = JOB_STATES.into_iter().map(count).collect();
    let head = fields(&[
        ("Cluster", info.cluster_id.clone()),
        ("Leader", leader),
        ("Store", store.unwrap_or_default()),
        ("Jobs", counts.join(", ")),
    ]);
    let rows: Vec<Vec<String>> = info.schedulers.iter().map(|scheduler| row(scheduler, now)).collect();
    format!("{head}\n{}", table(&["SCHEDULER", "ROLE", "ADDRESS", "VERSION", "SEEN"], &rows))
}

fn row(scheduler: &Scheduler, now: Timestamp) -> Vec<String> {
    vec![
        scheduler.id.clone(),
        if scheduler.leader { "leader" } else { "standby" }.to_owned(),
        scheduler.address.clone(),
        scheduler.version.clone(),
        age::since(age::instant(scheduler.heartbeat_time.as_ref()), now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_api::v1::get_cluster_info_response::{Leader, Store};

    #[test]
    fn the_overview_names_leader_store_and_jobs() {
        let seen = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let scheduler = |id: &str, leader| Scheduler {
            id: id.into(),
            address: format!("{id}:50051"),
            leader,
            version: "0.1.0".into(),
            heartbeat_time: seen(99),
        };
        let info = GetClusterInfoResponse {
            cluster_id: "berth".into(),
            schedulers: vec![scheduler("s1", false), scheduler("s2", true)],
            leader: Some(Leader { scheduler_id: "s2".into(), epoch: 7 }),
            store: Some(Store {
                kind: "redis".into(),
                durability: "fsync every second".into(),
                generation: 3,
            }),
            counts: [("RUNNING".to_owned(), 2), ("PENDING".to_owned(), 1)].into(),
            ..Default::default()
        };
        let now = Timestamp::from_second(100).expect("is in range");
        assert_eq!(
            overview(&info, now),
            "Cluster: berth\n\
             Leader:  s2 (epoch 7)\n\
             Store:   redis, fsync every second (generation 3)\n\
             Jobs:    1 PENDING, 0 ASSIGNED, 2 RUNNING, 0 SUCCEEDED, 0 FAILED, 0 ABORTED\n\
             \n\
             SCHEDULER  ROLE     ADDRESS   VERSION  SEEN\n\
             s1         standby  s1:50051  0.1.0    1s\n\
             s2         leader   s2:50051  0.1.0    1s\n"
        );
    }
}
