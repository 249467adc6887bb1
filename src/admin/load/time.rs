//! Moments as files write them: ISO 8601, other patterns, numbers since 1970. Pure.

use crate::admin::load::duration::{Point, UNITS, Unit, decimal};
use chrono::format::{Fixed, Item, Numeric, Parsed, StrftimeItems, parse, parse_and_remainder};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use std::fmt;

/// When a call began, as precisely as a record has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Wall-clock time, in a zone that the record does not name.
    Local(NaiveDateTime),
    /// Microseconds since 1970, UTC.
    Instant(i64),
}

impl Moment {
    /// Later by this many milliseconds, which may be negative. Wall-clock time ignores changes of the clock.
    pub fn plus(self, milliseconds: i64) -> Option<Self> {
        Some(match self {
            Self::Local(at) => Self::Local(at.checked_add_signed(TimeDelta::try_milliseconds(milliseconds)?)?),
            Self::Instant(at) => Self::Instant(at.checked_add(milliseconds.checked_mul(1000)?)?),
        })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(at) => write!(f, "{at}"),
            Self::Instant(at) => match DateTime::from_timestamp_micros(*at) {
                Some(at) => write!(f, "{at}"),
                None => write!(f, "{at} us since 1970"),
            },
        }
    }
}

/// How a file writes moments: ISO 8601 by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Style {
    /// One of these.
    pub patterns: Vec<Pattern>,
    /// A number since 1970; with [`Unit::Days`] since 1899-12-30 in local time, as spreadsheets count.
    pub unit: Option<Unit>,
}

impl Style {
    /// None: it is not understood, or there is no such moment.
    pub fn parse(&self, text: &str, point: Point) -> Option<Moment> {
        let text = text.trim();
        let of_number = self.unit.and_then(|unit| number(unit, text, point));
        let moment = match of_number {
            Some(moment) => moment,
            None if self.patterns.is_empty() && self.unit.is_none() => iso(text)?,
            None => self.patterns.iter().find_map(|pattern| pattern.parse(text))?,
        };
        is_storable(moment).then_some(moment)
    }

    /// What a good value looks like.
    pub fn example(&self) -> String {
        let number = self.unit.map(|unit| match unit {
            Unit::Days => "a number of days since 1899-12-30 such as 46084.34".to_owned(),
            _ => {
                let name = UNITS.iter().find(|(_, known)| *known == unit).map_or("s", |(name, _)| name);
                format!("a number of {name} since 1970")
            }
        });
        let patterns: Vec<&str> = self.patterns.iter().map(|pattern| pattern.source.as_str()).collect();
        match (number, patterns.is_empty()) {
            (None, true) => "a time such as 2026-03-03 08:15:00".into(),
            (Some(number), true) => number,
            (None, false) => format!("a time as {}", patterns.join(" or ")),
            (Some(number), false) => format!("{number}, or a time as {}", patterns.join(" or ")),
        }
    }
}

/// Years that calls can be in.
fn is_storable(moment: Moment) -> bool {
    match moment {
        Moment::Local(local) => (1..=9999).contains(&local.year()),
        Moment::Instant(instant) => (-62_000_000_000_000_000..253_000_000_000_000_000).contains(&instant),
    }
}

/// A pattern of strftime, or of letters such as `DD.MM.YYYY HH24:MI:SS`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    source: String,
    /// What stands between fractions of a second without a point of their own, which are as long as they are.
    parts: Vec<Vec<Item<'static>>>,
}

/// Letters, and what strftime has for them; longer ones first.
const LETTERS: [(&str, &str); 17] = [
    ("YYYY", "%Y"),
    ("YY", "%y"),
    ("Month", "%B"),
    ("Mon", "%b"),
    ("MM", "%m"),
    ("Day", "%A"),
    ("Dy", "%a"),
    ("DD", "%d"),
    ("HH24", "%H"),
    ("HH12", "%I"),
    ("HH", "%I"),
    ("MI", "%M"),
    ("SS", "%S"),
    ("MS", "%f"),
    ("US", "%f"),
    ("TZH:TZM", "%:z"),
    ("AM", "%p"),
];

impl Pattern {
    pub fn new(source: &str) -> Result<Self, String> {
        let strftime = if source.contains('%') { source.to_owned() } else { Self::of_letters(source) };
        // `SS.MS`: digits of a fraction, as many as there are, or none.
        let strftime = strftime.replace(".%f", "%.f");
        let items: Vec<Item<'static>> = StrftimeItems::new(&strftime).map(Item::to_owned).collect();
        if items.iter().any(|item| matches!(item, Item::Error)) {
            return Err(format!("{source:?} is no pattern of a time"));
        }
        if items.contains(&Item::Fixed(Fixed::TimezoneName)) {
            return Err(format!(
                "{source:?} has %Z, and names of zones in the text are not read: write a name that is always the same \
                 as it is, and give its zone in `zone`"
            ));
        }
        // To chrono it is a number of nanoseconds.
        let is_fraction = |item: &Item<'_>| matches!(item, Item::Numeric(Numeric::Nanosecond, _));
        let parts = items.split(is_fraction).map(<[Item<'static>]>::to_vec).collect();
        let pattern = Self { source: source.to_owned(), parts };
        if pattern.has(|spec| matches!(spec, 'd' | 'e' | 'j' | 's' | 'D' | 'F' | 'c' | 'x' | '+' | 'v'), &strftime) {
            Ok(pattern)
        } else {
            Err(format!("{source:?} has no day"))
        }
    }

    fn of_letters(source: &str) -> String {
        let mut made = String::new();
        let mut rest = source;
        'next: while let Some(character) = rest.chars().next() {
            for (letters, specifier) in LETTERS {
                if let Some(after) = rest.strip_prefix(letters) {
                    made.push_str(specifier);
                    rest = after;
                    continue 'next;
                }
            }
            made.push(character);
            rest = &rest[character.len_utf8()..];
        }
        made
    }

    fn has(&self, wanted: impl Fn(char) -> bool, strftime: &str) -> bool {
        let mut characters = strftime.chars();
        while let Some(character) = characters.next() {
            if character == '%' {
                let specifier = characters.by_ref().find(|c| c.is_alphabetic() || matches!(c, '%' | '+'));
                if specifier.is_some_and(&wanted) {
                    return true;
                }
            }
        }
        false
    }

    /// A pattern without a time of day stands for the beginning of the day.
    fn parse(&self, text: &str) -> Option<Moment> {
        let mut parsed = Parsed::new();
        let (last, before) = self.parts.split_last()?;
        let mut rest = text;
        for part in before {
            rest = parse_and_remainder(&mut parsed, rest, part.iter()).ok()?;
            rest = fraction(&mut parsed, rest)?;
        }
        parse(&mut parsed, rest, last.iter()).ok()?;
        if parsed.timestamp().is_some() || parsed.offset().is_some() {
            return parsed.to_datetime().ok().map(|at: DateTime<_>| Moment::Instant(at.timestamp_micros()));
        }
        // "26" is a year of its own to `%Y`.
        let date = parsed.to_naive_date().ok().filter(|date| date.year() >= 1900)?;
        let has_time = parsed.hour_div_12().is_some() || parsed.hour_mod_12().is_some() || parsed.minute().is_some();
        let time = if has_time { parsed.to_naive_time().ok()? } else { NaiveTime::MIN };
        // A leap second is the next one.
        Some(Moment::Local(date.and_hms_opt(0, 0, 0)? + (time - NaiveTime::MIN)))
    }
}

/// Takes the digits of a fraction of a second. What is smaller than a nanosecond does not count.
fn fraction<'a>(parsed: &mut Parsed, text: &'a str) -> Option<&'a str> {
    let (digits, rest) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let counted = digits.get(..9).unwrap_or(digits);
    let missing = 9 - u32::try_from(counted.len()).ok()?;
    parsed.set_nanosecond(counted.parse::<i64>().ok()? * 10_i64.pow(missing)).ok()?;
    Some(rest)
}

/// `2026-03-03 08:15[:00[.123]]`, also with a T, and `Z`, `UTC`, `GMT` or an offset.
fn iso(text: &str) -> Option<Moment> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u32> {
        let digits = bytes.get(from..to)?;
        digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
    };
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"T t") && is(13, b":")) {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(i32::try_from(number(0, 4)?).ok()?, number(5, 7)?, number(8, 10)?)?;
    let (hour, minute) = (number(11, 13)?, number(14, 16)?);
    let (mut second, mut nanoseconds, mut at) = (0, 0, 16);
    if is(16, b":") {
        second = number(17, 19)?;
        at = 19;
        if is(19, b".,") {
            let digits = bytes.get(20..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return None;
            }
            nanoseconds = number(20, 20 + digits)? * 10_u32.pow(9 - u32::try_from(digits).ok()?);
            at = 20 + digits;
        }
    }
    // The end of a day and a leap second are the beginning of the next.
    let is_end = hour == 24 && minute == 0 && second == 0 && nanoseconds == 0;
    if !(hour < 24 || is_end) || minute > 59 || second > 60 {
        return None;
    }
    let since = TimeDelta::seconds(i64::from(hour * 3600 + minute * 60 + second))
        + TimeDelta::microseconds(i64::from(nanoseconds / 1000));
    let local = date.and_hms_opt(0, 0, 0)?.checked_add_signed(since)?;
    let rest = text.get(at..)?.trim_start();
    if rest.is_empty() {
        return Some(Moment::Local(local));
    }
    let offset = offset(rest)?;
    Some(Moment::Instant(local.and_utc().timestamp_micros() - i64::from(offset) * 1_000_000))
}

/// `Z`, `UTC`, `GMT`, `+01`, `+0100`, `+01:00`: seconds east.
fn offset(text: &str) -> Option<i32> {
    if ["Z", "UTC", "GMT"].iter().any(|zero| text.eq_ignore_ascii_case(zero)) {
        return Some(0);
    }
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits.len() {
        2 => (digits, "0"),
        4 => digits.split_at_checked(2)?,
        5 => digits.split_once(':').filter(|(hours, _)| hours.len() == 2)?,
        _ => return None,
    };
    let part = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i32>().ok()).flatten();
    let (hours, minutes) = (part(hours)?, part(minutes)?);
    (hours <= 15 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

fn number(unit: Unit, text: &str, point: Point) -> Option<Moment> {
    let value = decimal(text, point)?;
    let microseconds = |per_unit: i128| i64::try_from(value.checked_mul(per_unit)?.div_euclid(1_000_000_000)).ok();
    Some(match unit {
        Unit::Seconds => Moment::Instant(microseconds(1_000_000)?),
        Unit::Milliseconds => Moment::Instant(microseconds(1000)?),
        Unit::Microseconds => Moment::Instant(microseconds(1)?),
        Unit::Nanoseconds => Moment::Instant(i64::try_from(value.div_euclid(1_000_000_000_000)).ok()?),
        Unit::Days => {
            // A fraction of a day has no more than milliseconds in it.
            let milliseconds = (value.checked_mul(86_400_000)? + 500_000_000).div_euclid(1_000_000_000);
            let since = TimeDelta::try_milliseconds(i64::try_from(milliseconds).ok()?)?;
            Moment::Local(NaiveDate::from_ymd_opt(1899, 12, 30)?.and_hms_opt(0, 0, 0)?.checked_add_signed(since)?)
        }
        Unit::Minutes | Unit::Hours | Unit::Clock => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(text: &str) -> Option<Moment> {
        Some(Moment::Local(NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").unwrap()))
    }

    fn instant(text: &str) -> Option<Moment> {
        Some(Moment::Instant(DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()))
    }

    #[test]
    fn iso_times_are_read_with_and_without_offset() {
        for (text, expected) in [
            ("2026-03-03 08:15:00", local("2026-03-03 08:15:00")),
            ("2026-03-03T08:15", local("2026-03-03 08:15:00")),
            ("2026-03-03 08:15:00.123456789", local("2026-03-03 08:15:00.123456")),
            ("2026-03-03 08:15:00,5", local("2026-03-03 08:15:00.5")),
            ("2026-03-03 24:00:00", local("2026-03-04 00:00:00")),
            ("2026-03-03 23:59:60", local("2026-03-04 00:00:00")),
            ("2026-03-03T08:15:00Z", instant("2026-03-03T08:15:00Z")),
            ("2026-03-03 08:15:00 +01:00", instant("2026-03-03T07:15:00Z")),
            ("2026-03-03 08:15:00+01", instant("2026-03-03T07:15:00Z")),
            ("2026-03-03 08:15:00 UTC", instant("2026-03-03T08:15:00Z")),
            ("2026-03-03 08:15 gmt", instant("2026-03-03T08:15:00Z")),
            ("2026-03-03 08:15:00 CET", None),
            ("2026-03-03 08:15:00-0330", instant("2026-03-03T11:45:00Z")),
            ("2026-02-30 08:00:00", None),
            ("2026-03-03 25:00", None),
            ("2026-03-03 24:00:01", None),
            ("2026-03-03", None),
            ("2026-03-03 08:15:00+25:00", None),
            ("2026-03-03 08:15:00+1", None),
            ("2026-03-03 08:15:00.", None),
            ("٢٠٢٦-03-03 08:15:00", None),
            ("03/03/2026", None),
            ("now", None),
            ("0000-03-03 08:15:00", None),
            ("", None),
        ] {
            assert_eq!(Style::default().parse(text, Point::Dot), expected, "{text}");
        }
    }

    #[test]
    fn patterns_are_those_of_strftime_or_letters() {
        for (pattern, text, expected) in [
            ("%m-%d-%Y %H:%M", "03-31-2026 08:15", local("2026-03-31 08:15:00")),
            ("DD.MM.YYYY HH24:MI:SS", "31.03.2026 08:15:09", local("2026-03-31 08:15:09")),
            ("DD.MM.YY HH24:MI:SS", "16.06.20 12:25:46", local("2020-06-16 12:25:46")),
            ("YYYY/MM/DD HH24:MI:SS.MS", "2026/03/31 08:15:09.25", local("2026-03-31 08:15:09.25")),
            ("YYYY-MM-DD HH24:MI:SS,MS", "2026-03-31 08:15:09,250", local("2026-03-31 08:15:09.25")),
            ("YYYY-MM-DD HH24:MI:SS:MS", "2026-03-31 08:15:09:25", local("2026-03-31 08:15:09.25")),
            ("YYYYMMDDHH24MISSMS", "20260331081509250", local("2026-03-31 08:15:09.25")),
            ("HH24:MI:SS,US DD.MM.YYYY", "08:15:09,000250 31.03.2026", local("2026-03-31 08:15:09.00025")),
            ("%Y-%m-%d %H:%M:%S,%f", "2026-03-31 08:15:09,2500000001", local("2026-03-31 08:15:09.25")),
            ("%Y-%m-%d %H:%M:%S,%3f", "2026-03-31 08:15:09,250", local("2026-03-31 08:15:09.25")),
            ("YYYY-MM-DD HH24:MI:SS,MS", "2026-03-31 08:15:09,", None),
            ("%Y/%m/%d %H:%M", "2020/2/10 22:41", local("2020-02-10 22:41:00")),
            ("%b %d, %Y %I:%M %p", "Mar 5, 2026 10:15 PM", local("2026-03-05 22:15:00")),
            ("YYYYMMDD", "20260303", local("2026-03-03 00:00:00")),
            ("%y%m%d", "990101", local("1999-01-01 00:00:00")),
            ("%a, %d %b %Y %H:%M:%S %z", "Tue, 31 Mar 2026 20:36:28 +0000", instant("2026-03-31T20:36:28Z")),
            ("%Y-%m-%dT%H:%M:%S%z", "2026-03-31T20:36:28-0100", instant("2026-03-31T21:36:28Z")),
            ("%d/%m/%Y", "31/02/2026", None),
            ("%d/%m/%Y", "01/02/26", None),
        ] {
            let style = Style { patterns: vec![Pattern::new(pattern).unwrap()], unit: None };
            assert_eq!(style.parse(text, Point::Dot), expected, "{pattern} {text}");
        }
        assert!(Pattern::new("HH24:MI").is_err() && Pattern::new("%Q").is_err());
        assert!(Pattern::new("%H:%M:%S %Z %Y-%m-%d").unwrap_err().contains("give its zone in `zone`"));
    }

    #[test]
    fn numbers_count_since_their_epoch() {
        for (unit, text, expected) in [
            (Unit::Seconds, "1772525700.5", instant("2026-03-03T08:15:00.5Z")),
            (Unit::Milliseconds, "1772525700500", instant("2026-03-03T08:15:00.5Z")),
            (Unit::Nanoseconds, "1772525700500000000", instant("2026-03-03T08:15:00.5Z")),
            (Unit::Days, "46084.34375", local("2026-03-03 08:15:00")),
            (Unit::Seconds, "x", None),
            (Unit::Seconds, "99999999999999999", None),
        ] {
            let style = Style { patterns: Vec::new(), unit: Some(unit) };
            assert_eq!(style.parse(text, Point::Dot), expected, "{unit:?} {text}");
        }
        let mixed = Style { patterns: vec![Pattern::new("DD.MM.YYYY").unwrap()], unit: Some(Unit::Days) };
        assert_eq!(mixed.parse("46084,5", Point::Either), local("2026-03-03 12:00:00"));
        assert_eq!(mixed.parse("03.03.2026", Point::Either), local("2026-03-03 00:00:00"));
    }
}
