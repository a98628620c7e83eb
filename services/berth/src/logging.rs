//! Where diagnostics go: to stderr, as the variable `BERTH_LOG` filters them. stdout carries results only.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging to stderr. Without `BERTH_LOG`, `default` is the filter; `None` logs nothing then.
pub fn start(default: Option<&str>) {
    let filter = std::env::var("BERTH_LOG").ok().filter(|filter| !filter.is_empty());
    let Some(filter) = filter.or_else(|| default.map(str::to_owned)) else { return };
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let started = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        // Told on stderr as well, where nobody reads any more, they would end whatever task logs.
        .log_internal_errors(false)
        .with_ansi(colour)
        .try_init();
    if let Err(error) = started {
        crate::output::note(format!("berth: logging was started twice ({error})"));
    }
}
