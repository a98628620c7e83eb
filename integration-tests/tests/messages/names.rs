//! What is said where two want the same port or name, or speak different protocols.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use berth_api::v1;
use berth_api::v1::executor_service_client::ExecutorServiceClient;
use berth_api::v1::executor_service_server::{ExecutorService, ExecutorServiceServer};
use berth_integration_tests::cluster::Cluster;
use berth_integration_tests::process::Process;
use berth_integration_tests::tools;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::golden::{check, reason};
use crate::{executor, scheduler, simulated};

#[test]
fn a_taken_port_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = taken.local_addr().map(|address| (address, taken)).expect("it has an address");
    let (address, port) = (taken.0.to_string(), taken.0.port().to_string());
    for (flag, other, name) in [
        ("--grpc-listen", "--http-listen", "port_taken_grpc"),
        ("--http-listen", "--grpc-listen", "port_taken_http"),
    ] {
        let folder = tools::folder();
        let mut command = scheduler(folder.path());
        command.args([flag, &address, other, "127.0.0.1:0"]);
        let mut process = Process::start("scheduler", &mut command);
        assert_eq!(process.ended(Duration::from_secs(30)), Some(1));
        check(name, &process.line_with("is taken"), &[(&format!(" {port} "), " <PORT> ")]);
    }
}

#[test]
fn a_second_executor_under_the_same_name_is_told_where_the_first_is() {
    let mut cluster = Cluster::start();
    simulated(&mut cluster, "executor-1", "2");
    let folder = tools::folder();
    let mut command = executor(tools::berth(), &cluster, "executor-1", folder.path());
    let mut twin = Process::start("twin", command.args(["--runtime", "simulated"]));
    let told = twin.line_with("is already connected");
    check("duplicate_id", reason(&told), &[(&cluster.scheduler.grpc, "<SCHEDULER>")]);
    let id = cluster.shell("true");
    assert_eq!(cluster.ended(&id)["state"], "SUCCEEDED", "the first goes on working");
}

/// Stands between an executor and its scheduler, and makes the executor an old one.
struct OldExecutors {
    scheduler: ExecutorServiceClient<Channel>,
}

#[tonic::async_trait]
impl ExecutorService for OldExecutors {
    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let old = v1::RegisterRequest { version: "0.4".into(), protocol_version: 0, ..request.into_inner() };
        self.scheduler.clone().register(old).await
    }

    type SessionStream = ReceiverStream<Result<v1::SessionResponse, Status>>;

    async fn session(
        &self,
        _: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        Err(Status::internal("an executor that is refused opens no session"))
    }

    async fn upload_logs(
        &self,
        _: Request<Streaming<v1::UploadLogsRequest>>,
    ) -> Result<Response<v1::UploadLogsResponse>, Status> {
        Err(Status::internal("an executor that is refused uploads nothing"))
    }
}

#[test]
fn an_executor_of_another_protocol_is_told_who_has_to_be_upgraded() {
    let cluster = Cluster::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let address = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address").to_string();
        let scheduler = ExecutorServiceClient::connect(format!("http://{}", cluster.scheduler.grpc));
        let service = OldExecutors { scheduler: scheduler.await.expect("it connects") };
        let server = Server::builder().add_service(ExecutorServiceServer::new(service));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    });
    let folder = tools::folder();
    let mut command = Command::new(tools::berth());
    command
        .args(["executor", "--runtime", "simulated", "--schedulers", &address, "--cluster", &cluster.name])
        .args(["--data-dir", &folder.path().display().to_string()])
        .env("EXECUTOR_ID", "executor-2");
    let mut process = Process::start("old executor", &mut command);
    let told = process.line_with("speaks protocol");
    check("version", reason(&told), &[(&address, "<SCHEDULER>")]);
}
