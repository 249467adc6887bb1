//! Command line to command. Pure.

mod commands;

pub use commands::{
    AdoptCommand, ExistingCalls, KnownFiles, LoadArguments, MAPPING_KEYS, MappingArguments, OperatorCommand,
    SchemaCommand, Script, TenantCommand, TenantName, TokenCommand,
};

use crate::config::VARIABLES;
use crate::config::listen::{self, ListenAddress, SocketAccess};
use crate::version;
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use commands::Cli;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

/// What the process is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Be a FastCGI worker on standard input, a listening socket.
    Serve,
    /// Bind this address, then the same.
    Listen(ListenAddress, SocketAccess),
    /// Answer one CGI request.
    Cgi,
    Check {
        json: bool,
        env_file: Option<PathBuf>,
    },
    Operator {
        /// `--database`.
        database: Option<String>,
        command: OperatorCommand,
    },
    /// Print this text.
    Print(String),
}

/// What the process knows of how it was started.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// Standard input is a listening socket.
    pub is_listening: bool,
    /// `GATEWAY_INTERFACE` is set.
    pub is_cgi: bool,
}

const NOT_LISTENING: &str = "standard input is not a listening socket, and GATEWAY_INTERFACE is not set";

/// Parses the arguments, without the name of the program. A web server passes words of a query on as arguments (RFC
/// 3875, section 4.4): in CGI they are the client's, and are not looked at.
pub fn parse(start: Start, arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    if !start.is_listening && start.is_cgi {
        return Ok(Command::Cgi);
    }
    let arguments = std::iter::once(OsString::from("callstats")).chain(arguments);
    let parsed = command().try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return Ok(Command::Print(error.render().to_string())),
        Err(error) => return Err(usage_error(&error)),
    };
    let conflict = |message: &str| Err(usage_error(&command().error(ErrorKind::ArgumentConflict, message)));
    let invalid = |message: String| usage_error(&command().error(ErrorKind::ValueValidation, message));
    Ok(match (cli.command, cli.listen) {
        (Some(_), Some(_)) => return conflict("--listen cannot be used with a command"),
        (Some(_), None) if cli.version => return conflict("--version cannot be used with a command"),
        (None, _) if cli.database.is_some() => return conflict("--database cannot be used without a command"),
        (Some(OperatorCommand::Check { .. }), None) if cli.database.is_some() => {
            return conflict("--database cannot be used with check, which connects as the worker does");
        }
        (Some(OperatorCommand::Check { json, env_file }), None) => Command::Check { json, env_file },
        (Some(command), None) => Command::Operator { database: cli.database, command },
        (None, Some(address)) => {
            let address = ListenAddress::parse(&address).map_err(invalid)?;
            let access = socket_access(&address, cli.listen_mode, cli.listen_group).map_err(invalid)?;
            Command::Listen(address, access)
        }
        (None, None) if cli.version => Command::Print(format!("{}\n", version::FULL)),
        (None, None) if start.is_listening => Command::Serve,
        (None, None) => return conflict(NOT_LISTENING),
    })
}

fn socket_access(address: &ListenAddress, mode: Option<String>, group: Option<String>) -> Result<SocketAccess, String> {
    if matches!(address, ListenAddress::Tcp(_)) && (mode.is_some() || group.is_some()) {
        return Err("--listen-mode and --listen-group are for a Unix socket, not for host:port. Hint: \
                    FCGI_WEB_SERVER_ADDRS limits who may connect over TCP"
            .into());
    }
    let read = mode.as_deref().map(|text| {
        let error = || format!("--listen-mode {text:?} is invalid. Hint: use an octal mode such as 0660");
        listen::parse_mode(text).ok_or_else(error)
    });
    Ok(SocketAccess { mode: read.transpose()?, group: group.filter(|group| !group.is_empty()) })
}

/// The command line as one description: help, manual pages and completions are made from it.
pub fn command() -> clap::Command {
    Cli::command().after_help(variables())
}

/// The message of clap, with the usage of the command that was meant, in the words of this project.
fn usage_error(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text).replace("\n  tip: ", "\nHint: ");
    if text.contains("\nUsage: ") {
        text.replace("\nUsage: ", "\nusage: ")
    } else {
        format!("{text}\n{}\n", command().render_usage()).replace("Usage:", "usage:")
    }
}

fn variables() -> String {
    let width = VARIABLES.iter().map(|variable| variable.name.len()).max().unwrap_or_default();
    let mut table = String::from("Environment (callstats(8) has more about each):");
    for variable in VARIABLES {
        let default = if variable.default.is_empty() { String::new() } else { format!(" ({})", variable.default) };
        // Writing to a string cannot fail.
        let _ = write!(table, "\n  {:width$}  {}{default}", variable.name, variable.summary);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(is_listening: bool, is_cgi: bool, arguments: &[&str]) -> Result<Command, String> {
        parse(Start { is_listening, is_cgi }, arguments.iter().map(OsString::from))
    }

    #[test]
    fn the_start_decides_between_worker_and_cgi() {
        assert_eq!(parsed(true, false, &[]), Ok(Command::Serve));
        assert_eq!(parsed(true, true, &[]), Ok(Command::Serve));
        assert_eq!(parsed(false, true, &["--version"]), Ok(Command::Cgi));
        assert!(parsed(false, false, &[]).unwrap_err().contains("not a listening socket"));
    }

    #[test]
    fn arguments_are_known_or_refused_with_the_usage() {
        let address = ListenAddress::Unix("/a".into());
        let listen = Command::Listen(address.clone(), SocketAccess::default());
        assert_eq!(parsed(false, false, &["--listen", "/a"]), Ok(listen));
        let access = SocketAccess { mode: Some(0o600), group: Some("www-data".into()) };
        let arguments = ["--listen", "unix:/a", "--listen-mode", "0600", "--listen-group", "www-data"];
        assert_eq!(parsed(false, false, &arguments), Ok(Command::Listen(address, access)));
        let env_file = Some("/b".into());
        let check = parsed(false, false, &["check", "--env-file", "/b", "--json"]);
        assert_eq!(check, Ok(Command::Check { json: true, env_file }));
        for wrong in [
            &["--listen"][..],
            &["--bogus"],
            &["bogus"],
            &["check", "now"],
            &["--version", "x"],
            &["--version", "check"],
            &["--listen", "/a", "check"],
            &["--listen", "/a", "--version"],
            &["--listen", "9000"],
            &["--listen", "/a", "--listen-mode", "rw"],
            &["--listen", "127.0.0.1:1", "--listen-mode", "0660"],
            &["--listen", "127.0.0.1:1", "--listen-group", "x"],
            &["--listen-mode", "0660"],
            &["--listen-group", "x"],
            &["--listen-group", "x", "check"],
            &["--database", "x"],
            &["--database", "x", "check"],
            &["tenant"],
            &["tenant", "add"],
            &["tenant", "add", "a", "--time-zone", "UTC"],
            &["token", "add", "a"],
            &["schema", "install", "bogus"],
            &["adopt"],
            &["load"],
            &["load", "--existing", "x", "a.csv"],
            &["adopt", "on", "--organisation", "x"],
            &["adopt", "off", "a", "b"],
        ] {
            let error = parsed(true, false, wrong).unwrap_err();
            assert!(error.to_lowercase().contains("\nusage: callstats"), "{wrong:?} {error}");
        }
    }

    #[test]
    fn the_description_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn help_names_every_variable() {
        let Ok(Command::Print(help)) = parsed(false, false, &["--help"]) else { panic!("no help") };
        assert!(VARIABLES.iter().all(|variable| help.contains(variable.name)));
        assert!(help.trim_end().lines().last().is_some_and(|line| line.contains("RUST_LOG")), "{help}");
    }

    #[test]
    fn every_command_has_an_example_and_its_exit_codes_in_its_help() {
        fn visit(command: &mut clap::Command, path: &str) {
            let has_commands = command.get_subcommands().next().is_some();
            let help = command.render_help().to_string();
            assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
            if !has_commands {
                assert!(help.contains("Example") && help.contains("Exit codes"), "{path}: {help}");
            }
            for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
                let path = format!("{path} {}", inner.get_name());
                visit(inner, &path);
            }
        }
        visit(&mut command(), "callstats");
    }
}
