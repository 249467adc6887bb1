//! What an error of PostgreSQL or of the way to it means for a request: decided by its SQLSTATE or its type, never by
//! its text. Pure.

use crate::database::socket::Silent;
use crate::store::DatabaseErrorKind::{
    ConnectionLost, Internal, NotReady, OutOfFileDescriptors, Refused, Timeout, Unavailable,
};
use crate::store::{DatabaseError, DatabaseErrorKind};
use postgres::error::SqlState;
use rustix::io::Errno;
use std::error::Error;
use std::io;

const NO_LONGER_FITS: &str = "an adopted table no longer fits its mapping";
const SEE_ADOPT_STATUS: &str = "run `callstats adopt status`";
const SEE_SERVER_LOG: &str = "look for the cause in the PostgreSQL log";

/// An error with its causes. Of the server's own errors, message and code without the detail, which may quote a value
/// of the client's.
pub fn describe(error: &postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Classifies an error of a statement.
pub fn classify(error: &postgres::Error) -> DatabaseError {
    let text = describe(error);
    let Some(code) = error.code() else {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        if cause.and_then(io::Error::get_ref).is_some_and(|cause| cause.is::<Silent>()) {
            return DatabaseError::new(
                Unavailable,
                format!("the database does not reply: {text}"),
                "look for locks in pg_locks, for a pooler without a free server connection, or for a server that hangs",
            );
        }
        return if error.is_closed() || error.source().is_some_and(|cause| cause.is::<io::Error>()) {
            DatabaseError::new(ConnectionLost, format!("lost the database connection: {text}"), SEE_SERVER_LOG)
        } else {
            DatabaseError::new(Internal, format!("the database sent an unusable reply: {text}"), SEE_SERVER_LOG)
        };
    };
    let (kind, message, hint) = by_code(code);
    DatabaseError::new(kind, format!("{message}: {text}"), hint)
}

/// Classifies an error of the statement over adopted tables. Our part of it was checked when it was generated, so what
/// does not exist, may not be read or cannot be converted is the site's.
pub fn classify_adopted(error: &postgres::Error) -> DatabaseError {
    match error.code().map(|code| &code.code()[..2]) {
        Some("22" | "3F" | "42") => {
            DatabaseError::new(NotReady, format!("{NO_LONGER_FITS}: {}", describe(error)), SEE_ADOPT_STATUS)
        }
        _ => classify(error),
    }
}

/// Kind, message and hint of a SQLSTATE (PostgreSQL's manual, appendix A).
fn by_code(code: &SqlState) -> (DatabaseErrorKind, &'static str, &'static str) {
    let is_setup = [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::INSUFFICIENT_PRIVILEGE,
    ];
    if is_setup.contains(code) {
        return (
            NotReady,
            "the database is not set up for callstats",
            "run schema.sql in it; `callstats check` names what is missing",
        );
    }
    // 25P04 is transaction_timeout of PostgreSQL 17, which has no name in the crate yet.
    let is_timeout = [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE].contains(code) || code.code() == "25P04";
    if is_timeout {
        return (
            Timeout,
            "a timeout ended the statement",
            "ask for fewer days, raise CALLSTATS_STATEMENT_TIMEOUT_MS, or look for a lock on the calls in pg_locks",
        );
    }
    // A statement that was prepared again has met another replacement: a new connection may do.
    if *code == SqlState::FEATURE_NOT_SUPPORTED {
        return (ConnectionLost, "the statement no longer fits the schema", "run `callstats check`");
    }
    if *code == SqlState::PROTOCOL_VIOLATION {
        let hint = "check the settings of the pooler, and options in DATABASE_URL";
        return (ConnectionLost, "lost the database connection", hint);
    }
    match &code.code()[..2] {
        // Syntax error or access rule violation: the text of our statements is fixed, so an adopted table has changed.
        "42" => (NotReady, NO_LONGER_FITS, SEE_ADOPT_STATUS),
        // Connection exception, operator intervention (shutdown, start).
        "08" | "57" => (ConnectionLost, "lost the database connection", SEE_SERVER_LOG),
        // Recovery conflict, and others that another try may do away with.
        "40" => (ConnectionLost, "the database aborted the statement", SEE_SERVER_LOG),
        "53" if *code == SqlState::TOO_MANY_CONNECTIONS => (
            Unavailable,
            "the database refused the connection",
            "raise max_connections, or the connection limit of the role",
        ),
        "53" => (Unavailable, "the database is out of resources", SEE_SERVER_LOG),
        // User, password, database.
        "28" | "3D" => (
            Refused,
            "the database refused the connection",
            "check user, password and database in DATABASE_URL or CALLSTATS_DATABASE_PASSWORD_FILE, and pg_hba.conf",
        ),
        _ => (Internal, "the database reported an error", SEE_SERVER_LOG),
    }
}

/// Whether a prepared statement is not where it was prepared: a pooler has moved the client to another server
/// connection, which lacks it or has another one of this name.
pub fn is_lost_statement(error: &postgres::Error) -> bool {
    let lost = [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT, SqlState::PROTOCOL_VIOLATION];
    error.as_db_error().is_some_and(|error| lost.contains(error.code()) && error.severity() == "ERROR")
}

/// Whether the result of a prepared statement has another type now, because call_source was replaced.
pub fn is_outdated_statement(error: &postgres::Error) -> bool {
    error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED)
}

/// Whether the encoding of the database lacks a character of a name that was asked for.
pub fn is_unencodable(error: &postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNTRANSLATABLE_CHARACTER)
}

/// Classifies an error of connecting: no statement had started.
pub fn classify_connect_error(error: &postgres::Error) -> DatabaseError {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    if matches!(cause.and_then(Errno::from_io_error), Some(Errno::MFILE | Errno::NFILE)) {
        return out_of_file_descriptors();
    }
    let classified = classify(error);
    match classified.kind {
        Internal | ConnectionLost if error.code().is_none() => DatabaseError::new(
            Unavailable,
            format!("cannot connect to the database: {}", describe(error)),
            "check that PostgreSQL is running and that DATABASE_URL is correct",
        ),
        ConnectionLost => DatabaseError {
            kind: Unavailable,
            message: format!("the database refused the connection: {}", describe(error)),
            ..classified
        },
        _ => classified,
    }
}

pub fn out_of_file_descriptors() -> DatabaseError {
    DatabaseError::new(
        OutOfFileDescriptors,
        "no file descriptor is left for a database connection",
        "raise the limit of open files",
    )
}
