//! The errors of the API as data: status, headers, message and hint of each (docs/api.md, "Errors"). Pure.

use crate::api::redact;
use crate::store::{DatabaseError, DatabaseErrorKind};

/// Why a request gets no statistics. One variant for each row of the table of errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// 405: not GET or HEAD.
    MethodNotAllowed,
    /// 400.
    BadRequest(BadRequest),
    /// 404: not `{prefix}/COMPANY/ORGANIZATION[/FOLDER]`.
    InvalidPath,
    /// 401: no token, or one that is neither root's nor a company's.
    Unauthorized,
    /// 403: a company token asks for another company.
    Forbidden,
    /// 404: a name of the path that does not exist.
    NotFound(NotFound),
    /// 500 or 503: the database gave no answer.
    Database(DatabaseError),
    /// 500: this process cannot do its work. The text is for the log.
    Internal(String),
}

/// A request that cannot be read, or contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRequest {
    /// A broken percent-escape, invalid UTF-8, a NUL, or no path at all.
    Malformed,
    /// A known query parameter is there twice.
    Duplicate(&'static str),
    /// A query parameter has a value that does not exist; with those that do.
    InvalidValue(&'static str, &'static str),
    /// The query and the header hold different tokens.
    TwoTokens,
}

/// The name of the path that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotFound {
    /// The root token is the only one that learns of it.
    Company(String),
    Organization(String),
    Folder(String),
}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl From<BadRequest> for ApiError {
    fn from(error: BadRequest) -> Self {
        Self::BadRequest(error)
    }
}

impl ApiError {
    /// The HTTP status code.
    pub fn status(&self) -> u16 {
        match self {
            Self::MethodNotAllowed => 405,
            Self::BadRequest(_) => 400,
            Self::InvalidPath | Self::NotFound(_) => 404,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::Internal(_) => 500,
            Self::Database(error) if error.kind == DatabaseErrorKind::Internal => 500,
            Self::Database(_) => 503,
        }
    }

    /// The header that belongs to the status, if one does.
    pub fn header(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::MethodNotAllowed => Some(("Allow", "GET, HEAD")),
            Self::Unauthorized => Some(("WWW-Authenticate", "Bearer realm=\"stats\"")),
            Self::Database(error) => match error.kind {
                DatabaseErrorKind::Timeout | DatabaseErrorKind::Internal => None,
                _ => Some(("Retry-After", "1")),
            },
            _ => None,
        }
    }

    /// Message and hint for the client. They hold none of the secrets, and nothing about this service's insides.
    pub fn describe(&self, prefix: &str, secrets: &[String]) -> Description {
        let described = |message: &str, hint: &str| Description::new(message, hint);
        match self {
            Self::MethodNotAllowed => described("Method not allowed.", "Use GET or HEAD."),
            Self::BadRequest(error) => error.describe(),
            Self::InvalidPath => Description::new(
                "The path is not one of this API.",
                format!("Use {prefix}/COMPANY/ORGANIZATION or {prefix}/COMPANY/ORGANIZATION/FOLDER."),
            ),
            Self::Unauthorized => described(
                "Missing or invalid token.",
                "Send it as \"Authorization: Bearer TOKEN\" or as the query parameter \"token\".",
            ),
            Self::Forbidden => {
                described("The token belongs to another company.", "Use a token of the company in the path.")
            }
            Self::NotFound(name) => name.describe(secrets),
            Self::Database(error) if error.kind == DatabaseErrorKind::Timeout => {
                described("The query took too long.", "Ask for fewer days.")
            }
            Self::Database(error) if error.kind != DatabaseErrorKind::Internal => {
                described("The service is temporarily unavailable.", "Retry in a second.")
            }
            Self::Database(_) | Self::Internal(_) => {
                described("Internal error.", "Tell the operator; the cause is in the service's log.")
            }
        }
    }

    /// The cause for the log, if an operator can do something about it.
    pub fn log_detail(&self) -> Option<String> {
        match self {
            Self::Database(error) => Some(error.to_string()),
            Self::Internal(cause) => Some(cause.clone()),
            _ => None,
        }
    }
}

/// What went wrong, and what to do about it (empty if there is nothing to say), in words for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub message: String,
    pub hint: String,
}

impl Description {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

impl BadRequest {
    fn describe(self) -> Description {
        match self {
            // Web servers refuse some such requests before they arrive here; their files have the same words.
            Self::Malformed => Description::new(
                "Malformed request: the URL and headers must be valid UTF-8 (percent-encoded in the URL) without NUL \
                 characters.",
                "",
            ),
            Self::Duplicate(name) => {
                Description::new(format!("Duplicate query parameter \"{name}\"."), "Send it once.")
            }
            Self::InvalidValue(name, values) => {
                Description::new(format!("Invalid value of the query parameter \"{name}\"."), format!("Use {values}."))
            }
            Self::TwoTokens => Description::new(
                "The query parameter \"token\" and the header Authorization hold different tokens.",
                "Send one of them.",
            ),
        }
    }
}

impl NotFound {
    fn describe(&self, secrets: &[String]) -> Description {
        let (kind, name) = match self {
            Self::Company(name) => ("company", name),
            Self::Organization(name) => ("organization", name),
            Self::Folder(name) => ("folder", name),
        };
        let name = redact::truncate(&redact::text(name, secrets), 100);
        Description::new(format!("No {kind} named \"{name}\"."), "Names are case-sensitive.")
    }
}
