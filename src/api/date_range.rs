//! The query parameter `daterange`: text and today's date in, days out (docs/api.md, "Date range"). Pure.

use crate::store::DateRange;
use chrono::NaiveDate;

/// The days that `daterange` names, or none if it names none: an invalid range is no error, its answer is empty.
pub fn resolve(parameter: Option<&str>, today: NaiveDate) -> Option<DateRange> {
    let (first, last) = match parameter.unwrap_or_default() {
        "" | "-" => (today, today),
        range => match range.split_once('-') {
            None => date(range).map(|day| (day, day))?,
            Some((start, "")) => date(start).map(|day| (day, day))?,
            Some(("", end)) => (today, date(end)?),
            Some((start, end)) => (date(start)?, date(end)?),
        },
    };
    (first <= last).then_some(DateRange { first, last })
}

/// A date of exactly eight digits, `YYYYMMDD`.
fn date(text: &str) -> Option<NaiveDate> {
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u32 = text.parse().ok()?;
    NaiveDate::from_ymd_opt(i32::try_from(number / 10_000).ok()?, number / 100 % 100, number % 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            assert_eq!(resolve(absent, today), range(today, today));
        }
        assert_eq!(resolve(Some("20260303-20260309"), today), range(day(2026, 3, 3), day(2026, 3, 9)));
        assert_eq!(resolve(Some("20260303"), today), range(day(2026, 3, 3), day(2026, 3, 3)));
        assert_eq!(resolve(Some("20260303-"), today), range(day(2026, 3, 3), day(2026, 3, 3)));
        assert_eq!(resolve(Some("-20260309"), today), range(today, day(2026, 3, 9)));
        assert_eq!(resolve(Some("-20260304"), today), None);
        assert_eq!(resolve(Some("20260309-20260303"), today), None);
        assert_eq!(resolve(Some("20260230"), today), None);
        assert_eq!(resolve(Some("20240229"), today), range(day(2024, 2, 29), day(2024, 2, 29)));
        assert_eq!(resolve(Some("00010101-99991231"), today), range(day(1, 1, 1), day(9999, 12, 31)));
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
        ] {
            assert_eq!(resolve(Some(text), day(2026, 3, 5)), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_formatted_range_is_parsed_back(offset in 0..3_000_000_i32, length in 0..5_000_i32) {
            let first = NaiveDate::from_num_days_from_ce_opt(365 + offset).unwrap();
            let last = NaiveDate::from_num_days_from_ce_opt(365 + offset + length).unwrap();
            let text = format!("{}-{}", first.format("%Y%m%d"), last.format("%Y%m%d"));
            let expected = if text.len() == 17 { range(first, last) } else { None };
            prop_assert_eq!(resolve(Some(&text), day(2026, 3, 5)), expected);
        }

        #[test]
        fn no_text_panics_or_yields_an_inverted_range(text in "\\PC*|[0-9-]{0,20}") {
            if let Some(found) = resolve(Some(&text), day(2026, 3, 5)) {
                prop_assert!(found.first <= found.last);
            }
        }
    }
}
