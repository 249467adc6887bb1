//! Sums of calls. Pure.

use chrono::NaiveDate;

/// Calls and their durations. Corrections can make both negative; 128 bits hold any number of 64-bit figures.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    pub calls: i128,
    pub duration_ms: i128,
}

impl Sum {
    pub fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.duration_ms += other.duration_ms;
    }
}

/// The sum of a folder and an agent in an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Total<'a> {
    /// The first day of the interval.
    pub date: NaiveDate,
    pub folder_id: i32,
    /// None or empty: calls without an agent.
    pub agent_id: Option<&'a str>,
    pub sum: Sum,
}
