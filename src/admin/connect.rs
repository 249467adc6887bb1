//! The connection of an operator's command. Touches the environment and the network.

use crate::admin::error::Error;
use crate::database::{Connector, DatabaseUrl};
use crate::store::{DatabaseError, DatabaseErrorKind};
use postgres::Client;

/// What psql's way to connect depends on.
const PG_VARIABLES: &str = "the PG variables of the environment";

/// Connects by `--database`, `DATABASE_URL`, or as psql does.
pub fn connect(database: Option<&str>) -> Result<Client, Error> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (from, text) = match (database, variable("DATABASE_URL")) {
        (Some(text), _) => ("--database", text.to_owned()),
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
        let hint = format!("{}; this connected by {from}", hint(&error, from));
        Error::new(error.message, hint)
    })
}

fn hint(error: &DatabaseError, from: &str) -> String {
    if from != PG_VARIABLES {
        return error.hint.replace("DATABASE_URL", from);
    }
    // Nothing says where to connect: root, for one, is no role of PostgreSQL.
    if error.kind == DatabaseErrorKind::Refused {
        return "connect as the owner of the schema: sudo -u postgres env PGDATABASE=calls callstats ...".to_owned();
    }
    error.hint.replace("DATABASE_URL is", &format!("{from} are")).replace("DATABASE_URL", from)
}
