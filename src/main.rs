//! How was I started? Touches the environment, descriptor 0, signals and the exit code.

use callstats::answer::{Ending, Outcome, Service, Store, answer};
use callstats::check::Style;
use callstats::config::Config;
use callstats::database::Connector;
use callstats::fastcgi::{ResponseStream, Signals};
use callstats::listen::Listener;
use callstats::pool::Pool;
use callstats::probe::{self, DatabaseState, Monitor};
use callstats::request::CgiParams;
use callstats::root_token::RootTokenFile;
use callstats::{cgi, check, fastcgi, response};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: callstats                    with a listening socket as descriptor 0: FastCGI worker until SIGTERM;
                                    with GATEWAY_INTERFACE set: answers one CGI request
       callstats --listen ADDRESS   binds /path/to.sock or host:port, then FastCGI worker
       callstats check [--json]     a line for each thing that must be right; exits 0 or 1
       callstats --version | --help

Environment: DATABASE_URL, CALLSTATS_DATABASE_PASSWORD_FILE, CALLSTATS_ROOT_TOKEN_FILE, CALLSTATS_PREFIX,
CALLSTATS_DB_CONNECTIONS, CALLSTATS_DB_WAIT_MS, CALLSTATS_STATEMENT_TIMEOUT_MS, CALLSTATS_DRAIN_MS,
CALLSTATS_MAX_CONNECTIONS, CALLSTATS_MAX_PARAMS_BYTES, CALLSTATS_REQUEST_TIMEOUT_MS, CALLSTATS_SEND_TIMEOUT_MS,
CALLSTATS_IDLE_TIMEOUT_MS, FCGI_WEB_SERVER_ADDRS, CALLSTATS_SOCKET (for check), RUST_LOG.
";

/// The command line was not understood.
const EXIT_USAGE: u8 = 2;
/// `EX_CONFIG` of sysexits.h.
const EXIT_CONFIG: u8 = 78;

enum Start {
    Worker,
    Listen(String),
    Cgi,
    Check(Style),
    Print(String),
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::new().default_filter_or("info")).init();
    match start() {
        Ok(Start::Worker) => with_config(|config, connector| serve(config, connector, io::stdin().as_fd())),
        Ok(Start::Listen(address)) => with_config(|config, connector| match Listener::bind(&address) {
            Ok(listener) => serve(config, connector, listener.as_fd()),
            Err(error) => {
                log::error!("cannot listen on {address}: {error}");
                ExitCode::FAILURE
            }
        }),
        Ok(Start::Cgi) => answer_one(),
        Ok(Start::Check(style)) => check::run(configured(), style, &mut io::stdout()),
        Ok(Start::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprint!("callstats: {error}\n\n{USAGE}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// A web server passes words of a query on as arguments (RFC 3875, section 4.4): in CGI they are a client's, and are
/// not looked at.
fn start() -> Result<Start, lexopt::Error> {
    let is_listening = rustix::net::sockopt::socket_acceptconn(io::stdin()).unwrap_or(false);
    if !is_listening && std::env::var_os("GATEWAY_INTERFACE").is_some() {
        return Ok(Start::Cgi);
    }
    arguments(is_listening, lexopt::Parser::from_env())
}

fn arguments(is_listening: bool, mut parser: lexopt::Parser) -> Result<Start, lexopt::Error> {
    use lexopt::prelude::*;
    let start = match parser.next()? {
        None if is_listening => Start::Worker,
        None => return Err("descriptor 0 is no listening socket, and GATEWAY_INTERFACE is not set".into()),
        Some(Long("listen")) => Start::Listen(parser.value()?.string()?),
        Some(Long("version") | Short('V')) => {
            Start::Print(concat!("callstats ", env!("CARGO_PKG_VERSION"), "\n").into())
        }
        Some(Long("help") | Short('h')) => Start::Print(USAGE.into()),
        Some(Value(word)) if word == "check" => match parser.next()? {
            None => Start::Check(Style::Lines { coloured: io::stdout().is_terminal() }),
            Some(Long("json")) => Start::Check(Style::Json),
            Some(other) => return Err(other.unexpected()),
        },
        Some(other) => return Err(other.unexpected()),
    };
    match parser.next()? {
        None => Ok(start),
        Some(other) => Err(other.unexpected()),
    }
}

/// What the environment says, or all that is wrong with it.
fn configured() -> Result<(Config, Connector), Vec<String>> {
    let config = Config::from_env(|name| std::env::var_os(name))?;
    let connector = Connector::new(&config).map_err(|error| vec![error])?;
    Ok((config, connector))
}

fn misconfigured(errors: &[String]) -> ExitCode {
    for error in errors {
        log::error!("{error}");
    }
    ExitCode::from(EXIT_CONFIG)
}

fn with_config(run: impl FnOnce(&Config, Connector) -> ExitCode) -> ExitCode {
    match configured() {
        Ok((config, connector)) => run(&config, connector),
        Err(errors) => misconfigured(&errors),
    }
}

/// Serves until it is told to stop; told twice, the process ends at once.
fn serve(config: &Config, connector: Connector, listener: BorrowedFd<'_>) -> ExitCode {
    let signals = match signals() {
        Ok(signals) => signals,
        Err(error) => {
            log::error!("cannot watch for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let pool = Pool::new(config, connector);
    let root_token = Arc::new(RootTokenFile::new(config.root_token_file.clone()));
    root_token.token(); // for its line in the log
    let reload = {
        let root_token = root_token.clone();
        move || root_token.reload()
    };
    let prefix = config.prefix.clone();
    log::info!("callstats {} serves {prefix}/", env!("CARGO_PKG_VERSION"));
    let (started, monitor) = (Instant::now(), Monitor::default());
    let handler = move |params: &CgiParams, mut out: &mut dyn ResponseStream| {
        if params.is_probe {
            return out.write_all(&probe::answer(params, &monitor, pool.probe(), started.elapsed())).is_ok();
        }
        let began = Instant::now();
        let outcome = answer_logged(&prefix, &root_token, &pool, params, &mut out);
        monitor.count(outcome.status, began.elapsed());
        outcome.ending == Ending::Whole
    };
    match fastcgi::serve(listener, &signals, config.transport.clone(), config.drain, reload, handler) {
        Ok(()) => {
            log::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            log::error!("cannot serve: {error}");
            ExitCode::FAILURE
        }
    }
}

/// SIGTERM, SIGINT and, as FastCGI programs have it, SIGUSR1 stop; SIGHUP reloads.
fn signals() -> io::Result<Signals> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    let (stop, told_to_stop) = UnixStream::pair()?;
    let (reload, told_to_reload) = UnixStream::pair()?;
    let was_told = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGUSR1] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, was_told.clone())?;
        signal_hook::flag::register(signal, was_told.clone())?;
        signal_hook::low_level::pipe::register(signal, told_to_stop.try_clone()?)?;
    }
    signal_hook::low_level::pipe::register(SIGHUP, told_to_reload)?;
    Ok(Signals { stop, reload })
}

fn answer_one() -> ExitCode {
    let params = cgi::params(|name| std::env::var_os(name));
    let mut out = io::stdout().lock();
    let (config, store) = match configured() {
        Ok(configured) => configured,
        Err(errors) => {
            // The client learns that it is not at fault; who reads the log learns why.
            let _ = out.write_all(&response::fault(!params.is_head()));
            return misconfigured(&errors);
        }
    };
    if params.is_probe {
        let is_up = store.session().is_ok();
        let state = DatabaseState { is_up, ..DatabaseState::default() };
        let sent = out.write_all(&probe::answer(&params, &Monitor::default(), state, Duration::ZERO));
        return if sent.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let root_token = RootTokenFile::new(config.root_token_file.clone());
    let outcome = answer_logged(&config.prefix, &root_token, &store, &params, &mut out);
    if outcome.ending == Ending::Whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn answer_logged(
    prefix: &str,
    root_token: &RootTokenFile,
    store: &dyn Store,
    params: &CgiParams,
    out: &mut dyn Write,
) -> Outcome {
    let began = Instant::now();
    let service = Service { prefix, root_token: root_token.token(), store };
    let outcome = answer(&service, params, out);
    log::log!(outcome.log_level(), "{}", outcome.log_line(began.elapsed()));
    outcome
}
