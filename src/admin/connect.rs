//! The connection of an operator's command. Touches the environment and the network.

use crate::admin::error::Error;
use crate::database::{Connector, DatabaseUrl};
use crate::store::DatabaseErrorKind;
use postgres::Client;

/// What psql's way to connect depends on.
const PG_VARIABLES: &str = "the PG variables of the environment";
const CONNECT_AS_OWNER: &str =
    "connect as the owner of the schema: sudo -u postgres env PGDATABASE=calls callstats ...";

/// Connects by `--database`, `DATABASE_URL`, or as psql does.
pub fn connect(database: Option<&str>) -> Result<Client, Error> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (from, text) = match (database, variable("DATABASE_URL")) {
        (Some(text), _) => ("--database", conninfo(text)),
        (None, Some(text)) => ("DATABASE_URL", text),
        (None, None) => (PG_VARIABLES, String::new()),
    };
    let url: DatabaseUrl = text.parse().map_err(|error: String| {
        let general = "give a libpq URI or key=value pairs, such as postgresql://postgres@db.example/calls";
        let (error, hint) = error.split_once(". Hint: ").unwrap_or((&error, general));
        Error::new(format!("cannot use {from} to connect: {error}"), hint)
    })?;
    let connector = Connector::for_operator(&url).map_err(|error| Error::new(error, ""))?;
    connector.client().map_err(|error| {
        let hint = match error.kind {
            // Root, for one, is no role of PostgreSQL.
            DatabaseErrorKind::Refused if from == PG_VARIABLES => CONNECT_AS_OWNER,
            // The hints of the worker may name the variable that it connects by.
            _ if from == "DATABASE_URL" || !error.hint.contains("DATABASE_URL") => error.hint,
            DatabaseErrorKind::Refused => "check the user, the password and the name of the database",
            _ => "check host and port, and that PostgreSQL is running there",
        };
        Error::new(format!("{} (connected by {from})", error.message), hint)
    })
}

/// A connection string as it is; what is neither a URI nor key=value pairs is the name of a database, as with psql.
fn conninfo(text: &str) -> String {
    if text.is_empty() || text.contains('=') || text.contains("://") {
        return text.to_owned();
    }
    format!("dbname='{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}
