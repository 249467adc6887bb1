//! `callstats load`: files of records become calls.
//!
//! Data flows one way: [`input`] opens a file and [`text`] decodes it, [`records`] finds the values of each record,
//! [`row`] makes of them what a call has, by the [`field`]s of a [`mapping`], and [`reading`] puts rows into a
//! [`batch`]. [`resolve`] looks up names and time zones in the database, and [`store`] writes the calls, in one
//! transaction for each file. [`command`] connects these steps.

mod batch;
mod command;
mod condition;
mod duration;
mod field;
#[cfg(fuzzing)]
pub mod fuzzing;
mod input;
mod loaded;
mod mapping;
mod problem;
mod progress;
mod reading;
mod records;
mod resolve;
mod row;
mod spec;
mod statistics;
mod store;
mod summary;
mod text;
mod time;
mod value;
mod zone;

pub use command::run;
