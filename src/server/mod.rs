//! The process that answers: sockets, signals, files and the log around [`crate::answer::answer`].

pub mod cgi;
pub mod fastcgi;
pub mod listen;
pub mod log_format;
pub mod manager;
pub mod metrics;
pub mod root_token;
pub mod signals;
pub mod spool;
pub mod worker;
