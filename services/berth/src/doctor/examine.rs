//! `berth doctor`: asks everything a cluster rests on, and says what to mend.

use std::path::PathBuf;

use super::ports::Kind;
use super::redis::Target;
use super::report::{Check, is_ok, to_json, to_text};
use super::{clock, docker, machine, ports, redis};
use crate::client::connection::Connection;
use crate::daemon::home;
use crate::failure::ERROR;
use crate::output;

/// How the findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Form {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// What to look at
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where gRPC is or would be served
    #[arg(long, env = "BERTH_GRPC_LISTEN", default_value = "127.0.0.1:50051", value_name = "HOST:PORT")]
    grpc_listen: String,
    /// Where REST is or would be served
    #[arg(long, env = "BERTH_HTTP_LISTEN", default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    http_listen: String,
    /// Where Redis is; overrides REDIS_HOST and REDIS_PORT
    #[arg(long, env = "BERTH_REDIS_URL", value_name = "URL", hide_env_values = true)]
    redis_url: Option<String>,
    /// Host of Redis [default: 127.0.0.1]
    #[arg(long, env = "REDIS_HOST", value_name = "HOST")]
    redis_host: Option<String>,
    /// Port of Redis [default: 6379]
    #[arg(long, env = "REDIS_PORT", value_name = "PORT")]
    redis_port: Option<String>,
    /// Folder of a daemon's files; by default the executor's: ~/.local/share/berth/executor, for root
    /// /var/lib/berth/executor
    #[arg(long, env = "BERTH_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How to print what was found
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

/// Looks at everything; 0 when nothing failed, 1 otherwise.
///
/// # Errors
/// Fails as the output does.
pub async fn execute(connection: &Connection, args: Args) -> anyhow::Result<u8> {
    let target = target(&args);
    let folder = args.data_dir.clone().unwrap_or_else(|| home::default_data_dir("executor"));
    let engine = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let (docker, redis, grpc, http, scheduler) = tokio::join!(
        docker::checks(engine),
        redis::checks(&target),
        ports::check(Kind::Grpc, &args.grpc_listen),
        ports::check(Kind::Http, &args.http_listen),
        clock::of_scheduler(connection),
    );
    let mut checks: Vec<Check> = docker;
    checks.extend(redis);
    checks.extend([grpc, http]);
    checks.extend(scheduler);
    checks.extend([machine::file_limit(), machine::data_folder(&folder)]);
    match args.output {
        Form::Text => output::print(&to_text(&checks))?,
        Form::Json => output::print_line(&serde_json::to_string_pretty(&to_json(&checks))?)?,
    }
    Ok(if is_ok(&checks) { 0 } else { ERROR })
}

/// An empty variable is how a compose file leaves one unset.
fn target(args: &Args) -> Target {
    let given = |value: &Option<String>| value.clone().filter(|value| !value.trim().is_empty());
    let (url, host, port) = (given(&args.redis_url), given(&args.redis_host), given(&args.redis_port));
    let configured = url.is_some() || host.is_some() || port.is_some();
    let (host, port) =
        (host.unwrap_or_else(|| "127.0.0.1".to_owned()), port.unwrap_or_else(|| "6379".to_owned()));
    Target { url: url.unwrap_or_else(|| format!("redis://{host}:{port}")), configured }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args {
            grpc_listen: String::new(),
            http_listen: String::new(),
            redis_url: None,
            redis_host: None,
            redis_port: None,
            data_dir: None,
            output: Form::Text,
        }
    }

    #[test]
    fn a_redis_is_configured_by_any_of_its_three_names() {
        let unset = Target { url: "redis://127.0.0.1:6379".to_owned(), configured: false };
        assert_eq!(target(&args()), unset);
        assert_eq!(
            target(&Args { redis_host: Some(String::new()), ..args() }),
            unset,
            "an empty one is unset"
        );
        let host = target(&Args { redis_host: Some("redis".to_owned()), ..args() });
        assert_eq!(host, Target { url: "redis://redis:6379".to_owned(), configured: true });
        let port = target(&Args { redis_port: Some("1".to_owned()), ..args() });
        assert_eq!(port, Target { url: "redis://127.0.0.1:1".to_owned(), configured: true });
        let url = target(&Args { redis_url: Some("rediss://r:2".to_owned()), ..args() });
        assert_eq!(url, Target { url: "rediss://r:2".to_owned(), configured: true });
    }
}
