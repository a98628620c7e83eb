//! Judges the container engine: whether it can be used, and whether jobs would find what they need.

use berth_executor::runtime::{BridgeFacts, DockerSettings, EngineError, EngineFacts, probe_docker};

use super::report::Check;

/// The oldest API that can be asked for devices: that of Docker 19.03.
const OLDEST_WITH_DEVICES: (u32, u32) = (1, 40);

/// Looks at the engine of DOCKER_HOST.
pub async fn checks(host: Option<String>) -> Vec<Check> {
    judge(probe_docker(DockerSettings { host }).await)
}

fn judge(found: Result<EngineFacts, EngineError>) -> Vec<Check> {
    let facts = match found {
        Ok(facts) => facts,
        Err(error) => return vec![unreachable(&error)],
    };
    let answers = format!("Docker {} answers at {}.", facts.version, facts.host);
    vec![Check::ok("docker", answers), api(&facts), architecture(&facts), bridge(&facts.bridge)]
}

fn unreachable(error: &EngineError) -> Check {
    match error {
        // The sentence has its own remedy; the two are shown apart here.
        EngineError::Unreachable(sentence) => match sentence.split_once(". ") {
            Some((what, remedy)) => Check::fail("docker", format!("{what}."), remedy),
            None => Check::fail("docker", sentence, "Check: docker info"),
        },
        EngineError::Unavailable(_) | EngineError::Failed(_) => Check::fail(
            "docker",
            format!("Docker cannot be used: {error}."),
            "Restart it, then check: docker info",
        ),
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn api(facts: &EngineFacts) -> Check {
    let (spoken, oldest) = (&facts.api_version, &facts.oldest_api_version);
    match (version(spoken), version(oldest)) {
        (Some(ours), Some(theirs)) if ours < theirs => Check::fail(
            "docker-api",
            format!("Docker speaks API {oldest} and newer; this program speaks {spoken} at most."),
            "Upgrade Berth.",
        ),
        (Some(ours), _) if ours < OLDEST_WITH_DEVICES => Check::warn(
            "docker-api",
            format!("Docker speaks API {spoken} only: jobs cannot be given GPUs."),
            "Upgrade Docker to 19.03 or newer.",
        ),
        _ => Check::ok("docker-api", format!("API {spoken} is spoken.")),
    }
}

fn architecture(facts: &EngineFacts) -> Check {
    const NAME: &str = "docker-arch";
    let here = std::env::consts::ARCH;
    let theirs = match facts.arch.as_str() {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    };
    if facts.os != "linux" {
        return Check::fail(
            NAME,
            format!("Docker runs {} containers; jobs need linux.", facts.os),
            "Switch it to Linux containers, or set DOCKER_HOST.",
        );
    }
    let message = format!("Docker runs linux/{} images.", facts.arch);
    if theirs == here {
        Check::ok(NAME, message)
    } else {
        Check::warn(
            NAME,
            format!("{message} This machine is {here}: its CPUs and memory are not those jobs would get."),
            "Run the executor on the engine's own machine, or set EXECUTOR_CPUS and EXECUTOR_MEMORY.",
        )
    }
}

fn bridge(found: &BridgeFacts) -> Check {
    const NAME: &str = "docker-bridge";
    const REMEDY: &str = "Restart Docker, which makes it again; or run jobs with --network none.";
    match found {
        BridgeFacts::Present => Check::ok(NAME, "The default bridge exists."),
        BridgeFacts::NoNetwork => Check::fail(
            NAME,
            "Docker has no default bridge: only jobs with --network none can start.",
            "Start dockerd without --bridge=none.",
        ),
        BridgeFacts::NoInterface(name) => Check::fail(
            NAME,
            format!("The interface {name} of the default bridge is gone: jobs on it cannot start."),
            REMEDY,
        ),
        BridgeFacts::Unknown(reason) => {
            Check::warn(NAME, format!("Docker does not tell of its default bridge: {reason}."), REMEDY)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    fn facts() -> EngineFacts {
        EngineFacts {
            host: "unix:///var/run/docker.sock".to_owned(),
            version: "28.2.2".to_owned(),
            api_version: "1.48".to_owned(),
            oldest_api_version: "1.24".to_owned(),
            os: "linux".to_owned(),
            arch: if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" }.to_owned(),
            bridge: BridgeFacts::Present,
        }
    }

    fn statuses(facts: EngineFacts) -> Vec<Status> {
        judge(Ok(facts)).into_iter().map(|check| check.status).collect()
    }

    #[test]
    fn an_engine_as_it_should_be_is_ok_in_everything() {
        assert_eq!(statuses(facts()), [Status::Ok; 4]);
    }

    #[test]
    fn each_thing_that_is_wrong_shows_in_its_own_check() {
        let too_new = EngineFacts { oldest_api_version: "1.99".to_owned(), ..facts() };
        assert_eq!(statuses(too_new)[1], Status::Fail);
        let too_old = EngineFacts { api_version: "1.38".to_owned(), ..facts() };
        assert_eq!(statuses(too_old)[1], Status::Warn);
        let elsewhere = EngineFacts { arch: "s390x".to_owned(), ..facts() };
        assert_eq!(statuses(elsewhere)[2], Status::Warn);
        let windows = EngineFacts { os: "windows".to_owned(), ..facts() };
        assert_eq!(statuses(windows)[2], Status::Fail);
        for gone in [BridgeFacts::NoNetwork, BridgeFacts::NoInterface("docker0".to_owned())] {
            assert_eq!(statuses(EngineFacts { bridge: gone, ..facts() })[3], Status::Fail);
        }
        let silent = EngineFacts { bridge: BridgeFacts::Unknown("x".to_owned()), ..facts() };
        assert_eq!(statuses(silent)[3], Status::Warn);
    }

    #[test]
    fn an_engine_out_of_reach_is_one_failure_with_its_remedy() {
        let sentence = "No permission on /x. Add this user to group \"docker\", then log in again.";
        let checks = judge(Err(EngineError::Unreachable(sentence.to_owned())));
        assert_eq!(
            checks,
            [Check::fail(
                "docker",
                "No permission on /x.",
                "Add this user to group \"docker\", then log in again."
            )]
        );
    }
}
