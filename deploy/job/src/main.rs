//! The static helper of the job image: small programs whose behaviour examples and tests know in advance.
//!
//! It answers to `berth-job COMMAND` and to a command's own name (`exit 3`). It knows nothing of Berth, so that what
//! it observes inside a container is what any program would observe. Signals are left to a shell: `trap '' TERM`.

mod act;
mod observe;

use std::io::{self, Write};
use std::process::ExitCode;

/// Says why a command could not do its work.
#[derive(Debug)]
enum Failure {
    /// The arguments make no sense; the text says what is wrong with them.
    Usage(String),
    /// The work itself failed; the text says how.
    Work(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Work(error.to_string())
    }
}

type Outcome = Result<ExitCode, Failure>;

const USAGE: &str = "\
usage: berth-job COMMAND [ARGUMENT...]
  exit N                    end with status N (0 to 255)
  sleep SECONDS             wait; fractions are accepted
  alloc MEGABYTES [SECONDS] hold that much touched memory, for SECONDS
  hog SECONDS               keep one core busy
  echo TEXT...              print to stdout
  echo-err TEXT...          print to stderr
  lines N [BYTES]           print N numbered lines, each at least BYTES long with its newline
  env [NAME]                print the environment in order, or one variable
  write-witness FILE TEXT   append a line and wait until it is on disk
  connect HOST:PORT         open a TCP connection and print the peer's address; @NAME is an abstract name
  listen HOST:PORT          print what each connection brings first; @NAME is an abstract name
  whoami                    print user, group, capabilities and confinement
  limits                    print the memory and CPU limits seen from inside
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    match run(&args) {
        Ok(code) => code,
        Err(Failure::Usage(text)) => {
            complain(&format!("berth-job: {text}\n{USAGE}"));
            ExitCode::from(2)
        }
        Err(Failure::Work(text)) => {
            complain(&format!("berth-job: {text}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Writes to stderr; a closed stderr is nobody's failure.
fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Finds the command in the program's own name or in the first argument, and carries it out.
fn run(args: &[String]) -> Outcome {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (name, rest) = match args.as_slice() {
        [program, rest @ ..] if base_name(program) != "berth-job" => (base_name(program), rest),
        [_, name, rest @ ..] => (*name, rest),
        [] | [_] => return Err(Failure::Usage("which command?".to_owned())),
    };
    match (name, rest) {
        ("exit", [status]) => act::exit(status),
        ("sleep", [seconds]) => act::sleep(seconds),
        ("alloc", [megabytes]) => act::alloc(megabytes, "0"),
        ("alloc", [megabytes, seconds]) => act::alloc(megabytes, seconds),
        ("hog", [seconds]) => act::hog(seconds),
        ("echo", words) => act::echo(&mut io::stdout(), words),
        ("echo-err", words) => act::echo(&mut io::stderr(), words),
        ("lines", [count]) => act::lines(count, "0"),
        ("lines", [count, bytes]) => act::lines(count, bytes),
        ("env", []) => observe::environment(),
        ("env", [variable]) => observe::variable(variable),
        ("write-witness", [file, text]) => act::write_witness(file, text),
        ("connect", [address]) => act::connect(address),
        ("listen", [address]) => act::listen(address),
        ("whoami", []) => observe::whoami(),
        ("limits", []) => observe::limits(),
        ("help" | "--help" | "-h", _) => act::echo(&mut io::stdout(), &[USAGE.trim_end()]),
        _ => Err(Failure::Usage(format!("cannot make sense of: {name} {}", rest.join(" ")))),
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
