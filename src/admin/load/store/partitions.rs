//! The months that have a place for calls, so that a check finds what a load would be refused for. Touches the database.

use crate::admin::error::Error;
use crate::admin::load::problem::Problem;
use chrono::NaiveDateTime;
use postgres::Transaction;

const PARTITIONS: &str = include_str!("../sql/partitions.sql");

/// None: there is no bound.
type Bound = Option<NaiveDateTime>;
/// From which start to which a partition takes calls.
type Bounds = (Bound, Bound);

/// Empty: the table takes all calls.
#[derive(Debug, Default)]
pub struct Partitions(Vec<Bounds>);

impl Partitions {
    pub fn read(transaction: &mut Transaction<'_>) -> Result<Self, Error> {
        let rows = transaction.query(PARTITIONS, &[])?;
        rows.iter().map(|row| Ok((row.try_get("first")?, row.try_get("last")?))).collect::<Result<_, _>>().map(Self)
    }

    pub fn have(&self, start: NaiveDateTime) -> bool {
        let takes = |(first, last): &Bounds| first.is_none_or(|first| start >= first) && last.is_none_or(|l| start < l);
        self.0.is_empty() || self.0.iter().any(takes)
    }

    /// For a statement; none: the table takes all calls.
    pub fn bounds(&self) -> Option<(Vec<Bound>, Vec<Bound>)> {
        if self.0.is_empty() { None } else { Some(self.0.iter().copied().unzip()) }
    }
}

/// A call that no partition takes.
pub fn missing(call: Option<&str>, start: NaiveDateTime) -> Problem {
    let reason = format!("there is no partition for the month of {}", start.date());
    let hint = "is the date right? select callstats.create_month_partitions(3) makes those of the next three months";
    match call {
        Some(call) => Problem::of_value("call", call, reason, hint),
        None => Problem::of_record(reason, hint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_in_a_partition_or_in_none() {
        let at = |text: &str| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap();
        assert!(Partitions::default().have(at("2031-01-01 00:00")));
        let months = Partitions(vec![(None, Some(at("2026-02-01 00:00"))), (Some(at("2026-03-01 00:00")), None)]);
        assert!(months.have(at("2026-01-31 23:59")) && months.have(at("2026-03-01 00:00")));
        assert!(!months.have(at("2026-02-01 00:00")) && !months.have(at("2026-02-28 23:59")));
    }
}
