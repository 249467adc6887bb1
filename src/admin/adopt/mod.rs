//! `callstats adopt`: tables of calls that a site has already, read in place. The rooms: [`mapping`], [`types`] and
//! [`sql`] are pure; [`catalogue`] asks the database what the table is like; [`report`] writes what `try` found;
//! [`command`] is the flow.

mod catalogue;
mod command;
mod mapping;
mod report;
mod sql;
mod types;

pub use command::run;
