//! The executable: reads how it was started, does that, and turns the result into an exit code. Touches the
//! environment, standard input, output and error.

use callstats::admin::{self, check};
use callstats::cli::{self, Command, OperatorCommand, Start};
use callstats::config::Config;
use callstats::config::listen::SocketAccess;
use callstats::database::Connector;
use callstats::server::listen::{self, Listener};
use callstats::server::signals::Signals;
use callstats::server::{cgi, log_format, worker};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

/// The command line was not understood.
const EXIT_USAGE: u8 = 2;
/// `EX_CONFIG` of sysexits.h.
const EXIT_CONFIG: u8 = 78;

/// Why the process fails.
enum Failure {
    /// The message ends with the usage.
    Usage(String),
    Config(Vec<String>),
    Io(String, io::Error),
    Listen(listen::Error),
    Command(admin::Error),
    /// Reported already.
    Reported,
}

fn main() -> ExitCode {
    log_format::start();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

/// To standard error. If nobody reads it, the exit code is all that is left.
fn complain(message: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "callstats: {message}");
}

fn report(failure: &Failure) -> ExitCode {
    match failure {
        Failure::Usage(message) => {
            complain(message.trim_end());
            ExitCode::from(EXIT_USAGE)
        }
        Failure::Config(errors) => {
            for error in errors {
                log::error!("{error}");
            }
            ExitCode::from(EXIT_CONFIG)
        }
        Failure::Io(doing, error) => {
            log::error!("cannot {doing}: {error}");
            ExitCode::FAILURE
        }
        Failure::Listen(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
        Failure::Command(error) => {
            complain(error);
            if error.is_usage { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
        }
        Failure::Reported => ExitCode::FAILURE,
    }
}

fn run() -> Result<(), Failure> {
    let start = Start {
        is_listening: rustix::net::sockopt::socket_acceptconn(io::stdin()).unwrap_or(false),
        is_cgi: std::env::var_os("GATEWAY_INTERFACE").is_some(),
    };
    match cli::parse(start, std::env::args_os().skip(1)).map_err(Failure::Usage)? {
        Command::Serve => {
            let (config, connector) = load_config().map_err(Failure::Config)?;
            let signals = register_signals()?;
            worker::run(&config, connector, io::stdin().as_fd(), &signals).map_err(cannot_serve)
        }
        Command::Listen(address, access) => {
            let (config, connector) = load_config().map_err(Failure::Config)?;
            let configured = config.socket_access.clone();
            let access =
                SocketAccess { mode: access.mode.or(configured.mode), group: access.group.or(configured.group) };
            let signals = register_signals()?; // before there is a socket, which a signal would leave behind
            let listener = Listener::bind(&address, &access).map_err(Failure::Listen)?;
            worker::run(&config, connector, listener.as_fd(), &signals).map_err(cannot_serve)
        }
        Command::Cgi => {
            let configured = load_config();
            let is_complete = cgi::serve(&configured);
            configured.map_err(Failure::Config)?;
            if is_complete { Ok(()) } else { Err(Failure::Reported) }
        }
        Command::Operator { database, command } => run_command(database.as_deref(), &command),
        Command::Check { json, env_file } => run_check(json, env_file.as_deref()),
        Command::Print(text) => {
            let printed = io::stdout().write_all(text.as_bytes());
            printed.map_err(|error| Failure::Io("write to standard output".into(), error))
        }
    }
}

fn register_signals() -> Result<Signals, Failure> {
    Signals::register().map_err(|error| Failure::Io("handle signals".into(), error))
}

fn cannot_serve(error: io::Error) -> Failure {
    Failure::Io("serve".into(), error)
}

/// The configuration of the environment, or all that is wrong with it.
fn load_config() -> Result<(Config, Connector), Vec<String>> {
    let config = Config::from_env(|name| std::env::var_os(name))?;
    let connector = Connector::new(&config.database).map_err(|error| vec![error])?;
    Ok((config, connector))
}

fn run_command(database: Option<&str>, command: &OperatorCommand) -> Result<(), Failure> {
    let mut output = admin::Output { stdout: &mut io::stdout(), stderr: &mut io::stderr() };
    admin::run(database, command, &mut output).map_err(Failure::Command)
}

fn run_check(json: bool, env_file: Option<&Path>) -> Result<(), Failure> {
    let results = check::run(admin::environment(env_file));
    let format = if json {
        check::Format::Json
    } else {
        check::Format::Lines { in_colour: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    };
    let written = io::stdout().write_all(&check::format(&results, format));
    written.map_err(|error| Failure::Io("write to standard output".into(), error))?;
    if check::all_passed(&results) { Ok(()) } else { Err(Failure::Reported) }
}
