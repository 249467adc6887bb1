//! The connection of the command. Touches the environment and the network.

use crate::admin::adopt::mapping::Error;
use crate::database::{DatabaseUrl, describe};
use postgres::{Client, NoTls};

/// The variables of libpq that say where to connect to, and their keywords.
const VARIABLES: [(&str, &str); 7] = [
    ("PGHOST", "host"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
];

/// Connects by `--database`, `DATABASE_URL`, or as psql does.
pub fn connect(database: Option<&str>) -> Result<Client, Error> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (from, text) = match (database, variable("DATABASE_URL")) {
        (Some(text), _) => ("--database", text.to_owned()),
        (None, Some(text)) => ("DATABASE_URL", text),
        (None, None) => {
            let pair = |&(name, keyword): &(&str, &str)| {
                variable(name).map(|value| format!("{keyword}='{}' ", value.replace('\\', "\\\\").replace('\'', "\\'")))
            };
            ("the PG variables of the environment", VARIABLES.iter().filter_map(pair).collect())
        }
    };
    let hint = "give a libpq URI or key=value pairs, such as postgresql://postgres@db.example/calls";
    let url: DatabaseUrl =
        text.parse().map_err(|error| Error::new(format!("cannot use {from} to connect: {error}"), hint))?;
    let tls = url.tls.connector().map_err(|error| Error::new(error, ""))?;
    let mut config = url.config;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        config.host_path("/var/run/postgresql"); // where Debian's PostgreSQL listens
    }
    config.application_name("callstats adopt");
    let connected = match tls {
        None => config.connect(NoTls),
        Some(tls) => config.connect(tls),
    };
    connected.map_err(|error| Error::new(format!("cannot connect by {from}: {}", describe(&error)), hint))
}
