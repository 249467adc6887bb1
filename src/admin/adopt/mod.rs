//! `callstats adopt`: tables of calls that a site has already, read in place. The rooms: `mapping`, `types`, `sql`,
//! `calls_between` and `warnings` are pure; `catalogue` asks the database what the table is like; `reader` reads it, as
//! callstats_worker; `advice` knows indexes; `privileges` grants what the worker reads; `names` creates what the table
//! names; `report` writes what `try` found; `notes` keeps what later commands need; `sums` keeps sums of old days, and
//! `groups` brings them there; `session` begins each command, and `command` is the flow.

mod advice;
mod calls_between;
mod catalogue;
mod command;
mod groups;
mod mapping;
mod names;
mod notes;
mod privileges;
mod reader;
mod report;
mod session;
mod sql;
mod sums;
mod types;
mod warnings;

pub use advice::READS_DAYS;
pub use command::run;
