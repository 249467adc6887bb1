//! The query parameter `interval`, and the first day of each interval (docs/api.md, "Intervals"). Pure.

use crate::api::error::BadRequest;
use chrono::{Datelike, Days, NaiveDate};

/// The days whose calls are summed up in one entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Interval {
    #[default]
    Day,
    /// ISO 8601: from Monday to Sunday.
    Week,
    Month,
    /// All days of the range.
    Total,
}

impl Interval {
    /// The interval that the parameter names; a day if it is absent or empty.
    pub fn parse(parameter: Option<&str>) -> Result<Self, BadRequest> {
        match parameter.unwrap_or_default() {
            "" | "day" => Ok(Self::Day),
            "week" => Ok(Self::Week),
            "month" => Ok(Self::Month),
            "total" => Ok(Self::Total),
            _ => Err(BadRequest::InvalidValue("interval", "day, week, month or total")),
        }
    }

    /// The first day of the interval that holds `date`, also if the range starts later. `first` is the first day of the
    /// range.
    pub fn start(self, date: NaiveDate, first: NaiveDate) -> NaiveDate {
        match self {
            Self::Day => date,
            Self::Week => {
                let days_from_monday = date.weekday().num_days_from_monday().into();
                date.checked_sub_days(Days::new(days_from_monday)).unwrap_or(date)
            }
            Self::Month => date.with_day(1).unwrap_or(date),
            Self::Total => first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn day(year: i32, month: u32, day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(year, month, day).unwrap()
    }

    #[test]
    fn only_the_documented_values_are_intervals() {
        for (parameter, interval) in [
            (None, Interval::Day),
            (Some(""), Interval::Day),
            (Some("day"), Interval::Day),
            (Some("week"), Interval::Week),
            (Some("month"), Interval::Month),
            (Some("total"), Interval::Total),
        ] {
            assert_eq!(Interval::parse(parameter), Ok(interval));
        }
        for parameter in ["Day", "days", "year", "week ", "1", "-", "total,day"] {
            assert!(Interval::parse(Some(parameter)).is_err(), "{parameter:?}");
        }
    }

    #[test]
    fn an_interval_starts_on_its_first_day_even_before_the_range() {
        let first = day(2026, 1, 2);
        // 1 January 2026 is a Thursday: its ISO week starts in the year before.
        assert_eq!(Interval::Week.start(day(2026, 1, 2), first), day(2025, 12, 29));
        assert_eq!(Interval::Week.start(day(2026, 1, 5), first), day(2026, 1, 5));
        assert_eq!(Interval::Week.start(day(2026, 1, 4), first), day(2025, 12, 29));
        assert_eq!(Interval::Week.start(day(1, 1, 1), first), day(1, 1, 1));
        assert_eq!(Interval::Month.start(day(2024, 2, 29), first), day(2024, 2, 1));
        assert_eq!(Interval::Month.start(day(2026, 1, 2), first), day(2026, 1, 1));
        assert_eq!(Interval::Total.start(day(2026, 7, 1), first), first);
        assert_eq!(Interval::Day.start(day(2026, 7, 1), first), day(2026, 7, 1));
    }

    proptest! {
        #[test]
        fn intervals_of_consecutive_days_are_the_same_or_follow_each_other(number in -1_000_000..4_000_000_i32) {
            let date = NaiveDate::from_num_days_from_ce_opt(number).unwrap();
            let next = date.succ_opt().unwrap();
            for interval in [Interval::Day, Interval::Week, Interval::Month] {
                let (start, next_start) = (interval.start(date, date), interval.start(next, date));
                prop_assert!(start <= date);
                prop_assert!(next_start == start || next_start == next);
            }
            let week = Interval::Week.start(date, date).iso_week();
            prop_assert_eq!(week, date.iso_week());
        }
    }
}
