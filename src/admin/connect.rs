//! The connection of an operator's command. Touches the environment and the network.

use crate::admin::error::Error;
use crate::database::{Connector, DatabaseUrl};
use crate::store::DatabaseErrorKind;
use postgres::Client;

/// Connects by `--database`, `DATABASE_URL`, or as psql does.
pub fn connect(database: Option<&str>) -> Result<Client, Error> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (from, text) = match (database, variable("DATABASE_URL")) {
        (Some(text), _) => ("--database", text.to_owned()),
        (None, Some(text)) => ("DATABASE_URL", text),
        (None, None) => ("the PG variables of the environment", String::new()),
    };
    let url: DatabaseUrl = text.parse().map_err(|error| {
        Error::new(
            format!("cannot use {from} to connect: {error}"),
            "give a libpq URI or key=value pairs, such as postgresql://postgres@db.example/calls",
        )
    })?;
    let connector = Connector::for_operator(&url).map_err(|error| Error::new(error, ""))?;
    connector.client().map_err(|error| {
        // The hints of the worker name the variable that it connects by.
        let hint = match error.kind {
            _ if from == "DATABASE_URL" => error.hint,
            DatabaseErrorKind::Unavailable => "check host and port, and that PostgreSQL is running there",
            DatabaseErrorKind::Refused => "check the user, the password and the name of the database",
            _ => error.hint,
        };
        Error::new(format!("{} (connected by {from})", error.message), hint)
    })
}
