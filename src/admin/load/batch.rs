//! Rows in batches, with names as numbers: what the thread that reads a file hands to the one that writes to the
//! database. Pure.

use crate::admin::error::Error;
use crate::admin::load::mapping::Takes;
use crate::admin::load::problem::Problems;
use crate::admin::load::text::Fingerprint;
use crate::admin::load::time::Moment;

/// A moment, and the number of its zone; none: that of the organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    pub moment: Moment,
    pub zone: Option<usize>,
    /// Milliseconds that it is later than a wall-clock time, by a watch.
    pub shift: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duration {
    Milliseconds(i32),
    Until(Start),
}

/// The values of a record, with names as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub line: u64,
    /// Of a company and an organization.
    pub place: usize,
    pub folder: Option<usize>,
    pub agent: Option<Box<str>>,
    pub call: Option<Box<str>>,
    pub start: Option<Start>,
    pub duration: Option<Duration>,
    pub ranks: [i16; 4],
    /// Its line has no end: there may be more of it later.
    pub is_unfinished: bool,
}

/// A name that occurred for the first time, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPlace {
    pub line: u64,
    pub company: String,
    pub organization: String,
    /// What the columns are called that name them.
    pub labels: [String; 2],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFolder {
    pub place: usize,
    pub name: String,
}

/// Rows in the order of the file, after the names that they are the first to use.
#[derive(Debug, Default)]
pub struct Batch {
    pub places: Vec<NewPlace>,
    pub folders: Vec<NewFolder>,
    pub zones: Vec<String>,
    pub rows: Vec<Row>,
}

/// What is known before the first row.
#[derive(Debug)]
pub struct Opening {
    /// Calls have ids.
    pub has_call: bool,
    pub folds: bool,
    pub takes: Takes,
    pub ignored: Vec<String>,
}

/// What is known after the last row.
#[derive(Debug)]
pub struct Ending {
    pub records: u64,
    /// Left out by the filter.
    pub filtered: u64,
    /// In the part of the file that was loaded before.
    pub known: u64,
    /// It has a header with the columns of the mapping.
    pub has_header: bool,
    /// The first value that a condition compares with a number and that is none, and how many records are like that.
    pub no_number: Option<(String, u64)>,
    /// Warnings of columns that no record has.
    pub absent: Vec<String>,
    pub problems: Problems,
    pub fingerprint: Fingerprint,
    /// The line that was left out, because it is still being written.
    pub left: Option<u64>,
}

#[derive(Debug)]
pub enum Message {
    Opening(Opening),
    Batch(Batch),
    Ending(Ending),
    Failed(Error),
}
