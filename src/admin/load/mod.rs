//! `callstats load`: files of records become calls.
//!
//! Data flows one way: [`input`] reads a file as text, [`records`] finds the values of each record in it, [`row`] makes
//! of them what a call has, by a [`mapping`], [`batch`] puts these together, [`resolve`] looks up names and time zones in
//! the database, and [`store`] writes the calls, in one transaction for each file. [`command`] holds the ends together.

mod batch;
mod command;
mod condition;
mod duration;
#[cfg(fuzzing)]
pub mod fuzzing;
mod input;
mod loaded;
mod mapping;
mod problem;
mod progress;
mod records;
mod resolve;
mod row;
mod spec;
mod statistics;
mod store;
mod summary;
mod time;
mod value;
mod zone;

pub use command::run;
