//! What can go wrong with a request, as data: the status, the words for the client and the words for the log. Pure.

use crate::redact;
use std::fmt;

/// Why a request gets no statistics. One variant for each row of the error table of the contract, section 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// 405: not GET or HEAD.
    Method,
    /// 400: what could not be read, as a sentence for the client.
    BadRequest(&'static str),
    /// 404: not `{prefix}/CO_SHORT/ORG_SHORT[/FOLDERNAME]`.
    PathForm,
    /// 401: no token, or one that is nobody's.
    Unauthorized,
    /// 403: a company token asks for another company.
    Forbidden,
    /// 404: the thing of the path that does not exist.
    NotFound(Missing),
    /// The database gave no answer.
    Database(DatabaseError),
}

/// The part of the path that names nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The company of this name (told to the root token only).
    Company(String),
    /// The organization of this name.
    Organization(String),
    /// The folder of this name.
    Folder(String),
}

/// Why the database gave no answer. The text is for the log: what happened and what mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseError {
    /// 503 with `Retry-After`: not reached, restarting, or all connections busy.
    Unavailable(String),
    /// The same, for want of a descriptor, of which the accept loop tells.
    NoDescriptor(String),
    /// The same, in the middle of a statement: a new connection may do.
    Lost(String),
    /// 503 with `Retry-After`: reached, but not set up for the worker.
    NotReady(String),
    /// 503 without `Retry-After`: the statement ran past its timeout.
    Timeout(String),
    /// 500: anything else.
    Fault(String),
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unavailable(cause)
        | Self::NoDescriptor(cause)
        | Self::Lost(cause)
        | Self::NotReady(cause)
        | Self::Timeout(cause)
        | Self::Fault(cause)) = self;
        f.write_str(cause)
    }
}

impl std::error::Error for DatabaseError {}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl ApiError {
    /// The HTTP status code.
    pub fn status(&self) -> u16 {
        match self {
            Self::Method => 405,
            Self::BadRequest(_) => 400,
            Self::PathForm | Self::NotFound(_) => 404,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::Database(DatabaseError::Fault(_)) => 500,
            Self::Database(_) => 503,
        }
    }

    /// The header that goes with the status, where there is one.
    pub fn header(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Method => Some(("Allow", "GET, HEAD")),
            Self::Unauthorized => Some(("WWW-Authenticate", "Bearer realm=\"stats\"")),
            Self::Database(DatabaseError::Timeout(_) | DatabaseError::Fault(_)) => None,
            Self::Database(_) => Some(("Retry-After", "1")),
            _ => None,
        }
    }

    /// A sentence that says what to do. It holds none of the secrets and no cause of ours.
    pub fn sentence(&self, prefix: &str, secrets: &[String]) -> String {
        let not_found = |kind: &str, name: &str| {
            let name = shortened(&redact::text(name, secrets), 100);
            format!("There is no {kind} \"{name}\": check its spelling, upper and lower case count.")
        };
        match self {
            Self::Method => "Use GET or HEAD.".into(),
            Self::BadRequest(sentence) => (*sentence).into(),
            Self::PathForm => format!("Ask for {prefix}/COMPANY/ORGANIZATION or {prefix}/COMPANY/ORGANIZATION/FOLDER."),
            Self::Unauthorized => {
                "Give a valid token, as the option token or as the header Authorization: Bearer TOKEN.".into()
            }
            Self::Forbidden => "This token is for another company: use the token of the company in the path.".into(),
            Self::NotFound(Missing::Company(name)) => not_found("company", name),
            Self::NotFound(Missing::Organization(name)) => not_found("organization", name),
            Self::NotFound(Missing::Folder(name)) => not_found("folder", name),
            Self::Database(DatabaseError::Timeout(_)) => "The answer took too long: ask for fewer days.".into(),
            Self::Database(DatabaseError::Fault(_)) => {
                "The service has a fault, which is in its log: tell its operator.".into()
            }
            Self::Database(_) => "The statistics are away for the moment: ask again in a second.".into(),
        }
    }

    /// What the log adds to the line of the request: only what an operator can mend.
    pub fn cause(&self) -> Option<&dyn fmt::Display> {
        match self {
            Self::Database(error) => Some(error),
            _ => None,
        }
    }
}

/// At most `limit` characters of the text, with a sign where some were left out.
pub fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
