//! Daily call statistics for each folder, as a FastCGI/CGI service over PostgreSQL.
//!
//! Data flows one way: CGI parameters -> request -> scope -> groups -> entries -> response. What is between the first
//! and the last arrow is values in, values out; sockets, files, clocks and signals are at the rim ([`fastcgi`],
//! [`cgi`], [`database`], [`root_token`]). Start with [`answer::answer`].

pub mod access;
pub mod answer;
pub mod cgi;
pub mod check;
pub mod config;
pub mod database;
pub mod database_url;
pub mod date_range;
pub mod error;
pub mod fastcgi;
pub mod listen;
pub mod pool;
pub mod probe;
pub mod redact;
pub mod report;
pub mod request;
pub mod response;
pub mod root_token;
