//! Daily call statistics for each folder, as a FastCGI/CGI service over PostgreSQL.
//!
//! Data flows one way: CGI parameters -> request -> scope -> daily totals -> entries -> response. [`answer::answer`] is
//! that flow; start there. `docs/architecture.md` has the drawing.

// The core, pure: values in, values out.
pub mod answer;
pub mod api;
pub mod report;
pub mod response_writer;

// The ports of the core: what it needs of the world, as traits.
pub mod client;
pub mod scratch;
pub mod store;

// Input and output: sockets, files, signals, the database.
pub mod database;
pub mod server;

// How the process is started and configured, and the operator's commands.
pub mod admin;
pub mod cli;
pub mod config;
pub mod version;
