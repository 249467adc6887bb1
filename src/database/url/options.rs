//! The one list of libpq's options: what callstats does with each. `docs/database-url.md` has a row for each. Pure.

/// An option of a connection string.
pub struct ConnectionOption {
    pub name: &'static str,
    /// The variable of the environment that it is taken from if it is not given; empty: none.
    pub variable: &'static str,
    pub usage: Use,
}

/// What becomes of an option.
pub enum Use {
    Honoured,
    /// Taken, and without effect.
    NoDifference,
    /// Refused, unless its value changes nothing; with the reason.
    Refused(fn(&str) -> bool, &'static str),
}

use Use::{Honoured, NoDifference, Refused};

const fn option(name: &'static str, variable: &'static str, usage: Use) -> ConnectionOption {
    ConnectionOption { name, variable, usage }
}

fn never(_: &str) -> bool {
    false
}

const NO_GSS: &str = "there is no GSSAPI here. Hint: leave it out, and use a password or a client certificate";
const NO_OAUTH: &str = "there is no OAuth here. Hint: leave it out, and use a password or a client certificate";
const NO_SCRAM_KEY: &str = "there is no login with SCRAM keys here. Hint: give the password";

/// What the server takes for false: also the beginning of a word, if that is clear.
fn is_false(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    matches!(value.as_str(), "" | "0" | "of" | "off") || ["false", "no"].iter().any(|word| word.starts_with(&value))
}

/// All options of libpq 18, in the order of PostgreSQL's manual; `requiressl`, which it takes without listing it, and
/// `servicefile` of the next version.
pub const OPTIONS: &[ConnectionOption] = &[
    option("host", "PGHOST", Honoured),
    option("hostaddr", "PGHOSTADDR", Honoured),
    option("port", "PGPORT", Honoured),
    option("dbname", "PGDATABASE", Honoured),
    option("user", "PGUSER", Honoured),
    option("password", "PGPASSWORD", Honoured),
    option("passfile", "PGPASSFILE", Honoured),
    option(
        "require_auth",
        "PGREQUIREAUTH",
        Refused(never, "the method of login is not checked here. Hint: use channel_binding=require"),
    ),
    option("channel_binding", "PGCHANNELBINDING", Honoured),
    option("connect_timeout", "PGCONNECT_TIMEOUT", Honoured),
    option("client_encoding", "PGCLIENTENCODING", NoDifference),
    option("options", "PGOPTIONS", Honoured),
    option("application_name", "PGAPPNAME", Honoured),
    option("fallback_application_name", "", Honoured),
    option("keepalives", "", Honoured),
    option("keepalives_idle", "", Honoured),
    option("keepalives_interval", "", Honoured),
    option("keepalives_count", "", Honoured),
    option("tcp_user_timeout", "", Honoured),
    option("replication", "", Refused(is_false, "a replication connection runs no queries. Hint: leave it out")),
    option("gssencmode", "PGGSSENCMODE", Refused(|value| value != "require", NO_GSS)),
    option("sslmode", "PGSSLMODE", Honoured),
    option("requiressl", "", Honoured),
    option("sslnegotiation", "PGSSLNEGOTIATION", Honoured),
    option("sslcompression", "PGSSLCOMPRESSION", NoDifference),
    option("sslcert", "PGSSLCERT", Honoured),
    option(
        "sslkey",
        "PGSSLKEY",
        Refused(
            |value| value.starts_with('/') || !value.contains(':'),
            "keys of OpenSSL engines are not read. Hint: give the file of the key",
        ),
    ),
    option("sslkeylogfile", "", Refused(str::is_empty, "session keys are never written to files. Hint: leave it out")),
    option("sslpassword", "", Honoured),
    option(
        "sslcertmode",
        "PGSSLCERTMODE",
        Refused(
            |value| value != "require",
            "whether the server asked for a certificate is not checked here. Hint: use clientcert in pg_hba.conf",
        ),
    ),
    option("sslrootcert", "PGSSLROOTCERT", Honoured),
    option("sslcrl", "PGSSLCRL", Honoured),
    option("sslcrldir", "PGSSLCRLDIR", Honoured),
    option("sslsni", "PGSSLSNI", Honoured),
    option("requirepeer", "PGREQUIREPEER", Honoured),
    option("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", Honoured),
    option("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Honoured),
    option(
        "min_protocol_version",
        "PGMINPROTOCOLVERSION",
        Refused(|value| value == "3.0", "the protocol is 3.0 here. Hint: use 3.0, or leave it out"),
    ),
    option(
        "max_protocol_version",
        "PGMAXPROTOCOLVERSION",
        Refused(
            |value| matches!(value, "3.0" | "3.2" | "latest"),
            "it is neither 3.0, 3.2 nor latest. Hint: leave it out",
        ),
    ),
    option("krbsrvname", "PGKRBSRVNAME", NoDifference),
    option("gsslib", "PGGSSLIB", NoDifference),
    option("gssdelegation", "PGGSSDELEGATION", NoDifference),
    option("scram_client_key", "", Refused(never, NO_SCRAM_KEY)),
    option("scram_server_key", "", Refused(never, NO_SCRAM_KEY)),
    option("service", "PGSERVICE", Honoured),
    option("servicefile", "PGSERVICEFILE", Honoured),
    option("target_session_attrs", "PGTARGETSESSIONATTRS", Honoured),
    option("load_balance_hosts", "PGLOADBALANCEHOSTS", Honoured),
    option("oauth_issuer", "", Refused(str::is_empty, NO_OAUTH)),
    option("oauth_client_id", "", Refused(str::is_empty, NO_OAUTH)),
    option("oauth_client_secret", "", Refused(str::is_empty, NO_OAUTH)),
    option("oauth_scope", "", Refused(str::is_empty, NO_OAUTH)),
];

/// A name that is no option, as far as it may be shown: a mistake in quoting can make one of a password.
pub fn shown(name: &str) -> String {
    let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_plain { name.to_owned() } else { "one of its names".into() }
}
