//! Command line to command. Pure.

use crate::admin::adopt;
use crate::config::VARIABLES;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

/// What the process is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Be a FastCGI worker on standard input, a listening socket.
    Serve,
    /// Bind this address, then the same.
    Listen(String),
    /// Answer one CGI request.
    Cgi,
    Check {
        json: bool,
        env_file: Option<PathBuf>,
    },
    Adopt {
        action: adopt::Action,
        database: Option<String>,
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

const USAGE: &str = "\
usage: callstats                    FastCGI worker until SIGTERM, if standard input is a listening socket;
                                    answers one CGI request, if GATEWAY_INTERFACE is set
       callstats --listen ADDRESS   binds /path/to.sock or host:port, then FastCGI worker
       callstats check [--json] [--env-file FILE]
                                    verifies the installation; exits 0 if all checks pass, else 1
       callstats adopt try|on [--database URL] [--preset NAME] [--KEY VALUE]... [FILE]
                                    reads a table of calls that exists already, in place; FILE is TOML
       callstats adopt off [NAME] | status | sync [--full]  [--database URL]
       callstats --version | --help
";

/// Parses the arguments, without the name of the program. A web server passes words of a query on as arguments (RFC
/// 3875, section 4.4): in CGI they are the client's, and are not looked at.
pub fn parse(start: Start, arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    if !start.is_listening && start.is_cgi {
        return Ok(Command::Cgi);
    }
    let mut parser = lexopt::Parser::from_args(arguments);
    command(start.is_listening, &mut parser).map_err(|error| format!("{error}\n\n{USAGE}"))
}

fn command(is_listening: bool, parser: &mut lexopt::Parser) -> Result<Command, lexopt::Error> {
    use lexopt::prelude::*;
    let command = match parser.next()? {
        None if is_listening => Command::Serve,
        None => return Err("standard input is not a listening socket, and GATEWAY_INTERFACE is not set".into()),
        Some(Long("listen")) => Command::Listen(parser.value()?.string()?),
        Some(Long("version") | Short('V')) => {
            Command::Print(concat!("callstats ", env!("CARGO_PKG_VERSION"), "\n").into())
        }
        Some(Long("help") | Short('h')) => Command::Print(help()),
        Some(Value(word)) if word == "check" => return check(parser),
        Some(Value(word)) if word == "adopt" => return adopt(parser),
        Some(other) => return Err(other.unexpected()),
    };
    match parser.next()? {
        None => Ok(command),
        Some(other) => Err(other.unexpected()),
    }
}

fn check(parser: &mut lexopt::Parser) -> Result<Command, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut json, mut env_file) = (false, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("json") => json = true,
            Long("env-file") => env_file = Some(PathBuf::from(parser.value()?)),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Command::Check { json, env_file })
}

fn adopt(parser: &mut lexopt::Parser) -> Result<Command, lexopt::Error> {
    use lexopt::prelude::*;
    let Some(Value(word)) = parser.next()? else { return Err("adopt needs try, on, off, status or sync".into()) };
    let takes_mapping = word == "try" || word == "on";
    let (mut database, mut file, mut options, mut full) = (None, None, Vec::new(), false);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("database") => database = Some(parser.value()?.string()?),
            Long("full") if word == "sync" => full = true,
            Long(key) if takes_mapping => {
                let key = key.replace('-', "_");
                options.push((key, parser.value()?.string()?));
            }
            Value(value) if file.is_none() && (takes_mapping || word == "off") => file = Some(value),
            other => return Err(other.unexpected()),
        }
    }
    let action = match word.to_str() {
        Some("try") => adopt::Action::Try { file: file.map(PathBuf::from), options },
        Some("on") => adopt::Action::On { file: file.map(PathBuf::from), options },
        Some("off") => adopt::Action::Off { name: file.map(|name| name.string()).transpose()? },
        Some("status") => adopt::Action::Status,
        Some("sync") => adopt::Action::Sync { full },
        _ => return Err("adopt needs try, on, off, status or sync".into()),
    };
    Ok(Command::Adopt { action, database })
}

fn help() -> String {
    let width = VARIABLES.iter().map(|variable| variable.name.len()).max().unwrap_or_default();
    let mut help = format!("{USAGE}\nEnvironment (callstats(8) has more about each):\n");
    for variable in VARIABLES {
        let default = if variable.default.is_empty() { String::new() } else { format!(" ({})", variable.default) };
        // Writing to a string cannot fail.
        let _ = writeln!(help, "  {:width$}  {}{default}", variable.name, variable.summary);
    }
    help.push_str("\nKeys of a mapping, as options of adopt or in its file:\n");
    for (key, meaning) in adopt::KEYS {
        let _ = writeln!(help, "  {key:14}{meaning}");
    }
    help
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
        assert_eq!(parsed(false, false, &["--listen", "/a"]), Ok(Command::Listen("/a".into())));
        let env_file = Some("/b".into());
        let check = parsed(false, false, &["check", "--env-file", "/b", "--json"]);
        assert_eq!(check, Ok(Command::Check { json: true, env_file }));
        for wrong in [&["--listen"][..], &["--bogus"], &["bogus"], &["check", "now"], &["--version", "x"]] {
            assert!(parsed(true, false, wrong).unwrap_err().contains("\n\nusage: callstats"), "{wrong:?}");
        }
    }

    #[test]
    fn help_names_every_variable() {
        let Ok(Command::Print(help)) = parsed(false, false, &["--help"]) else { panic!("no help") };
        assert!(VARIABLES.iter().all(|variable| help.contains(variable.name)));
        assert!(help.lines().all(|line| line.len() <= 120), "{help}");
    }
}
