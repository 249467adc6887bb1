//! The connection of an operator's command. Touches the environment and the network.

use crate::admin::error::Error;
use crate::database::{Connector, DatabaseUrl};
use postgres::Client;

/// The variables of libpq that say where to connect to, and their keywords (PostgreSQL's manual, section 34.15).
const VARIABLES: [(&str, &str); 11] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGOPTIONS", "options"),
    ("PGAPPNAME", "application_name"),
];

/// Connects by `--database`, `DATABASE_URL`, or as psql does.
pub fn connect(database: Option<&str>) -> Result<Client, Error> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (from, text) = match (database, variable("DATABASE_URL")) {
        (Some(text), _) => ("--database", text.to_owned()),
        (None, Some(text)) => ("DATABASE_URL", text),
        (None, None) => ("the PG variables of the environment", pairs(&variable)),
    };
    let url: DatabaseUrl = text.parse().map_err(|error| {
        Error::new(
            format!("cannot use {from} to connect: {error}"),
            "give a libpq URI or key=value pairs, such as postgresql://postgres@db.example/calls",
        )
    })?;
    let connector = Connector::for_operator(&url).map_err(|error| Error::new(error, ""))?;
    connector.client().map_err(|error| {
        Error::new(error.message, format!("{}; this connected by {from}", error.hint.replace("DATABASE_URL", from)))
    })
}

fn pairs(variable: &dyn Fn(&str) -> Option<String>) -> String {
    let pair = |&(name, keyword): &(&str, &str)| {
        variable(name).map(|value| format!("{keyword}='{}' ", value.replace('\\', "\\\\").replace('\'', "\\'")))
    };
    VARIABLES.iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_become_pairs_of_libpq() {
        let text = pairs(&|name| match name {
            "PGHOST" => Some("/a b".into()),
            "PGPASSWORD" => Some(r"it's \ ".into()),
            _ => None,
        });
        let url: DatabaseUrl = text.parse().unwrap();
        assert_eq!(url.config.get_password(), Some(&br"it's \ "[..]));
        assert!(pairs(&|_| None).parse::<DatabaseUrl>().is_ok());
    }
}
