//! The operator's commands. A worker runs none of this.

pub mod adopt;
pub mod check;
mod connect;
mod env_file;
mod error;
mod escape;
mod installed;
mod interrupt;
mod load;
mod manual;
mod name;
mod output;
mod schema;
mod temporary;
mod tenant;
mod token;

pub use env_file::environment;
pub use error::Error;
#[cfg(fuzzing)]
pub use load::fuzzing;

use crate::cli::{OperatorCommand, SchemaCommand};
use postgres::{Client, Transaction};
use std::io::Write;

/// Settings of a transaction that may take long.
const LONG: &str = include_str!("sql/long.sql");

/// Where a command writes: results to standard output, notes for people to standard error.
pub struct Output<'a> {
    pub stdout: &'a mut dyn Write,
    pub stderr: &'a mut dyn Write,
}

impl Output<'_> {
    /// A line that is no result. If nobody can read it, the command still does its work.
    fn note(&mut self, line: &str) {
        let _ = writeln!(self.stderr, "{line}");
    }
}

/// Runs a command other than `check`.
pub fn run(database: Option<&str>, command: &OperatorCommand, out: &mut Output<'_>) -> Result<(), Error> {
    match command {
        OperatorCommand::Check { .. } => Ok(()), // has its own way of reporting
        OperatorCommand::Tenant(command) => tenant::run(command, &mut connect::connect(database)?, out),
        OperatorCommand::Token(command) => token::run(command, &mut connect::connect(database)?, out),
        OperatorCommand::Load(arguments) => load::run(arguments, database, out),
        OperatorCommand::Adopt(command) => adopt::run(command, database, out.stdout),
        OperatorCommand::Schema(SchemaCommand::Print { script }) => output::text(out.stdout, schema::text(*script)),
        OperatorCommand::Schema(command) => schema::run(command, &mut connect::connect(database)?, out),
        OperatorCommand::Completions { shell } => manual::completions(*shell, out),
        OperatorCommand::Manual { folder } => manual::write(folder),
    }
}

/// A transaction in which only names of the system are found without their schema, whatever the role's settings are.
fn transaction(client: &mut Client) -> Result<Transaction<'_>, Error> {
    let mut transaction = client.transaction()?;
    transaction.batch_execute("set local search_path = pg_catalog, pg_temp")?;
    Ok(transaction)
}

/// Suggests the composed form of a name that is in another.
fn warn_unless_composed(out: &mut Output<'_>, kind: &str, name: &str) {
    if let Some(composed) = name::composed(name) {
        out.note(&format!(
            "callstats: the name of the {kind} is not in Unicode's composed form (NFC), so it differs from {} as most \
             keyboards type it. Hint: use that one",
            name::shown(&composed)
        ));
    }
}
