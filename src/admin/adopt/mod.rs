//! `callstats adopt`: tables of calls that a site has already, read in place. The rooms: `mapping`, `types` and `sql`
//! are pure; `catalogue` asks the database what the table is like; `reader` reads it, as callstats_worker; `advice`
//! knows indexes; `names` creates what it names; `report` writes what `try` found; `sums` keeps sums of old days, and
//! `groups` brings them there; `session` begins each command, and `command` is the flow.

mod advice;
mod catalogue;
mod command;
mod groups;
mod mapping;
mod names;
mod reader;
mod report;
mod session;
mod sql;
mod sums;
mod types;

pub use advice::READS_DAYS;
pub use command::run;
