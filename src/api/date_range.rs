//! The query parameter `daterange`: text and today's date in, days out (docs/api.md, "Date range"). Pure.

use crate::store::DateRange;
use chrono::NaiveDate;

/// What a range without its start or its end stands for (`CALLSTATS_OPEN_RANGE`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OpenRange {
    /// One day, or the days from today on: the reference that this service implements.
    #[default]
    Day,
    /// All days from the first to today, as later versions of that API have it.
    Unbounded,
}

impl OpenRange {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "day" => Some(Self::Day),
            "unbounded" => Some(Self::Unbounded),
            _ => None,
        }
    }
}

/// The days that `daterange` names, or none if it names none: an invalid range is no error, its answer is empty.
pub fn resolve(parameter: Option<&str>, today: NaiveDate, open_range: OpenRange) -> Option<DateRange> {
    let range = parameter.unwrap_or_default();
    let (start, end) = match range.split_once('-') {
        None if range.is_empty() => (Some(today), Some(today)),
        None => (Some(date(range)?), Some(date(range)?)),
        Some((start, end)) => (date_or_open(start)?, date_or_open(end)?),
    };
    let (first, last) = match open_range {
        OpenRange::Day => (start.unwrap_or(today), end.or(start).unwrap_or(today)),
        OpenRange::Unbounded => (start.unwrap_or(first_date()), end.unwrap_or(today)),
    };
    (first <= last).then_some(DateRange { first, last })
}

/// 1 January of the year 1, the first date that a range can name.
fn first_date() -> NaiveDate {
    NaiveDate::from_ymd_opt(1, 1, 1).unwrap_or_default()
}

/// Some(None) for the open end of a range; none for an invalid date.
fn date_or_open(text: &str) -> Option<Option<NaiveDate>> {
    if text.is_empty() { Some(None) } else { date(text).map(Some) }
}

/// A date of exactly eight digits, `YYYYMMDD`. There is no year 0.
fn date(text: &str) -> Option<NaiveDate> {
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u32 = text.parse().ok()?;
    let year = i32::try_from(number / 10_000).ok().filter(|year| *year > 0)?;
    NaiveDate::from_ymd_opt(year, number / 100 % 100, number % 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: OpenRange = OpenRange::Day;

    fn day(year: i32, month: u32, day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(year, month, day).unwrap()
    }

    fn range(first: NaiveDate, last: NaiveDate) -> Option<DateRange> {
        Some(DateRange { first, last })
    }

    #[test]
    fn each_row_of_the_table_resolves() {
        let today = day(2026, 3, 5);
        for absent in [None, Some(""), Some("-")] {
            assert_eq!(resolve(absent, today, DAY), range(today, today));
        }
        assert_eq!(resolve(Some("20260303-20260309"), today, DAY), range(day(2026, 3, 3), day(2026, 3, 9)));
        assert_eq!(resolve(Some("20260303"), today, DAY), range(day(2026, 3, 3), day(2026, 3, 3)));
        assert_eq!(resolve(Some("20260303-"), today, DAY), range(day(2026, 3, 3), day(2026, 3, 3)));
        assert_eq!(resolve(Some("-20260309"), today, DAY), range(today, day(2026, 3, 9)));
        assert_eq!(resolve(Some("-20260304"), today, DAY), None);
        assert_eq!(resolve(Some("20260309-20260303"), today, DAY), None);
        assert_eq!(resolve(Some("20260230"), today, DAY), None);
        assert_eq!(resolve(Some("20240229"), today, DAY), range(day(2024, 2, 29), day(2024, 2, 29)));
        assert_eq!(resolve(Some("00010101-99991231"), today, DAY), range(day(1, 1, 1), day(9999, 12, 31)));
    }

    #[test]
    fn open_ends_are_unbounded_if_so_configured() {
        let today = day(2026, 3, 5);
        let resolve = |parameter| resolve(parameter, today, OpenRange::Unbounded);
        for absent in [None, Some("")] {
            assert_eq!(resolve(absent), range(today, today));
        }
        assert_eq!(resolve(Some("-")), range(day(1, 1, 1), today));
        assert_eq!(resolve(Some("20260303")), range(day(2026, 3, 3), day(2026, 3, 3)));
        assert_eq!(resolve(Some("20260303-")), range(day(2026, 3, 3), today));
        assert_eq!(resolve(Some("20260305-")), range(today, today));
        assert_eq!(resolve(Some("20260306-")), None);
        assert_eq!(resolve(Some("-20260304")), range(day(1, 1, 1), day(2026, 3, 4)));
        assert_eq!(resolve(Some("-20270101")), range(day(1, 1, 1), day(2027, 1, 1)));
        assert_eq!(resolve(Some("20260303-20260309")), range(day(2026, 3, 3), day(2026, 3, 9)));
        for text in ["--", "-x", "x-", "20260230-", "-20260230", "20260303000000-", "20260303--"] {
            assert_eq!(resolve(Some(text)), None, "{text:?}");
        }
        assert_eq!(OpenRange::parse("day"), Some(OpenRange::Day));
        assert_eq!(OpenRange::parse("unbounded"), Some(OpenRange::Unbounded));
        for text in ["", "Day", "days", "open"] {
            assert_eq!(OpenRange::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn anything_else_resolves_to_no_days() {
        for text in [
            "--",
            "2026030",
            "202603030",
            "2026-03-03",
            " 20260303",
            "20260303 ",
            "+2260303",
            "20260303-20260309-",
            "20260303-x",
            "x-20260303",
            "20260303--20260309",
            "today",
            "２０２６０３０３",
            "20261301",
            "20260100",
            "20260303/20260309",
            "20260303-20260230",
            "0",
            "'",
            "20260303;",
            "20260303000000",
            "20260303000000-20260309235959",
            "20260303-20260309235959",
            "00000101",
            "00000101-20260309",
        ] {
            assert_eq!(resolve(Some(text), day(2026, 3, 5), DAY), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_formatted_range_is_parsed_back(offset in 0..3_000_000_i32, length in 0..5_000_i32) {
            let first = NaiveDate::from_num_days_from_ce_opt(365 + offset).unwrap();
            let last = NaiveDate::from_num_days_from_ce_opt(365 + offset + length).unwrap();
            let text = format!("{}-{}", first.format("%Y%m%d"), last.format("%Y%m%d"));
            let expected = if text.len() == 17 { range(first, last) } else { None };
            prop_assert_eq!(resolve(Some(&text), day(2026, 3, 5), DAY), expected);
        }

        #[test]
        fn no_text_panics_or_yields_an_inverted_range(text in "\\PC*|[0-9-]{0,20}") {
            for open_range in [OpenRange::Day, OpenRange::Unbounded] {
                if let Some(found) = resolve(Some(&text), day(2026, 3, 5), open_range) {
                    prop_assert!(found.first <= found.last);
                }
            }
        }
    }
}
