//! The API of `docs/api.md` as values: parameters to a request, a request and a row to access, errors to statuses and
//! messages, headers to bytes. Pure: nothing here touches a socket, a file, a clock or the environment.

pub mod access;
pub mod cgi;
pub mod date_range;
pub mod error;
pub mod file_name;
pub mod format;
pub mod interval;
pub mod redact;
pub mod request;
pub mod response;
