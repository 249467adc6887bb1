//! `callstats check`: one result for each thing that must be right. Touches the database, the root token file and the
//! socket, without changing anything.

mod database;
mod result;
mod socket;

pub use result::{CheckResult, Format, all_passed, format};

use crate::admin::installed;
use crate::config::{self, Config};
use crate::database::{Connector, describe};
use crate::server::root_token;
use crate::store::DatabaseErrorKind;
use result::Verdict;
use rustix::process::geteuid;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Checks everything.
pub fn run(environment: Result<BTreeMap<OsString, OsString>, String>) -> Vec<CheckResult> {
    let environment = match environment {
        Ok(environment) => environment,
        Err(error) => return vec![configuration_error(&error)],
    };
    let configured = Config::from_env(|name| environment.get(&OsString::from(name)).cloned())
        .and_then(|config| Ok((Connector::new(&config.database).map_err(|error| vec![error])?, config)));
    let mut results = match configured {
        Err(errors) => errors.iter().map(|error| configuration_error(error)).collect(),
        Ok((connector, config)) => all(&config, &connector),
    };
    results.extend(unknown_variables(&environment));
    results
}

/// An error of the configuration: a message, and behind "Hint:" its fix.
fn configuration_error(error: &str) -> CheckResult {
    let (message, fix) = error.split_once(". Hint: ").unwrap_or((error, "correct it"));
    CheckResult { name: "configuration", verdict: Verdict::fail(message, fix) }
}

/// Variables of our prefix that nobody reads: probably misspelled.
fn unknown_variables(environment: &BTreeMap<OsString, OsString>) -> Vec<CheckResult> {
    let names = environment.keys().filter_map(|name| name.to_str()).filter(|name| name.starts_with("CALLSTATS_"));
    names
        .filter(|name| config::VARIABLES.iter().all(|variable| variable.name != *name))
        .filter(|name| *name != "CALLSTATS_PROBE")
        .map(|name| {
            let nearest = config::nearest_variable(name);
            let verdict =
                Verdict::warn(format!("{name} is not a variable of callstats"), format!("did you mean {nearest}?"));
            CheckResult { name: "environment", verdict }
        })
        .collect()
}

fn all(config: &Config, connector: &Connector) -> Vec<CheckResult> {
    let mut results = Vec::new();
    match connector.client() {
        Err(error) => {
            let fix = if error.kind == DatabaseErrorKind::Refused && error.message.contains("(SQLSTATE 28000)") {
                // By `peer`, root is not the worker.
                let as_worker = match geteuid().is_root() {
                    true => "run this as the worker's user: sudo -u callstats_worker callstats check",
                    false => error.hint,
                };
                format!("{as_worker}; if the role does not exist yet: {}", installed::psql("schema.sql"))
            } else {
                error.hint.to_owned()
            };
            results.push(CheckResult { name: "database", verdict: Verdict::fail(error.message, fix) });
        }
        Ok(mut client) => {
            // Behind a pooler it may stay, with the value that the worker sets for each transaction anyway.
            let limit = config.database.statement_timeout.as_millis();
            if let Err(error) = client.batch_execute(&format!("set statement_timeout = {limit}")) {
                log::debug!("cannot set the statement timeout: {}", describe(&error));
            }
            for (name, verdict) in database::all(&mut client) {
                results.push(CheckResult { name, verdict });
            }
            drop(client); // the role may have a limit of connections
            results.insert(1, CheckResult { name: "connection", verdict: connection(connector) });
        }
    }
    results.push(CheckResult { name: "root token file", verdict: root_token_file(&config.root_token_file) });
    if let Some(path) = &config.socket {
        // The token is for the worker alone: who cannot read it may be the web server.
        let is_user_of_worker = root_token::read(&config.root_token_file).is_ok();
        results.push(CheckResult { name: "socket", verdict: socket::check(path, is_user_of_worker) });
    }
    results
}

/// Whether the way to the database is verified, and what is in between.
fn connection(connector: &Connector) -> Verdict {
    match connector.describe_connection() {
        Ok((message, None)) => Verdict::Pass(message),
        Ok((message, Some(fix))) => Verdict::warn(message, fix),
        Err(error) => Verdict::fail(error.message, error.hint),
    }
}

fn root_token_file(path: &Path) -> Verdict {
    if let Err(error) = root_token::read(path) {
        return Verdict::fail(error.message, error.hint);
    }
    let name = path.display();
    match path.metadata() {
        Ok(metadata) if metadata.permissions().mode() & 0o004 != 0 => {
            Verdict::fail(format!("everybody can read {name}"), format!("chmod o-rwx {name}"))
        }
        Ok(_) => Verdict::Pass(format!("{name} is readable, and not by everybody")),
        Err(error) => Verdict::fail(format!("{name}: {error}"), "let the worker's user read it"),
    }
}
