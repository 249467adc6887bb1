//! What an operator's command reports when it fails. Pure.

use crate::admin::escape::escape;
use crate::database::describe;
use std::fmt;
use std::io;

/// A message, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Error {
    pub message: String,
    /// Empty: nothing to say.
    pub hint: String,
    /// The arguments are wrong.
    pub is_usage: bool,
}

impl Error {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), is_usage: false }
    }

    /// Of an argument that is wrong whatever the files and the database have.
    pub fn of_usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { is_usage: true, ..Self::new(message, hint) }
    }

    /// A failure to write to standard output.
    pub fn of_output(error: &io::Error) -> Self {
        Self::new(format!("cannot write to standard output: {error}"), "make room, or read all of it")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Messages of the database quote names and data, and this is written to terminals.
        let harmless = |text: &str| -> String {
            text.chars().map(|character| if character == '\n' { "\n".into() } else { escape(character) }).collect()
        };
        f.write_str(&harmless(&self.message))?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, ". Hint: {}", harmless(&self.hint)) }
    }
}

impl From<postgres::Error> for Error {
    /// The server's own hint, or ours for what operators meet.
    fn from(error: postgres::Error) -> Self {
        let hint = match error.as_db_error() {
            Some(db) if db.hint().is_some() => db.hint().unwrap_or_default(),
            Some(db) => match db.code().code() {
                "42501" => "connect as the owner of the schema, or as a role with the privileges that this needs",
                "42P01" | "3F000" | "42703" => "callstats schema install",
                "25006" => "connect to the primary, and not to a standby",
                "40001" | "40P01" | "55P03" => "run it again",
                "57P01" | "57P02" | "57P03" => "see the log of PostgreSQL, and run it again",
                _ => "",
            },
            None => "check that PostgreSQL is running, and see its log",
        };
        Self::new(describe(&error), hint.trim_end_matches('.'))
    }
}
