//! Numbers and durations as files write them. Pure.

/// Digits after the point that count.
const SCALE: u32 = 9;
const ONE: i128 = 10_i128.pow(SCALE);

/// The decimal separator of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    Dot,
    Comma,
    /// A comma if the number has one, else a point.
    Either,
    /// The same in a file that may be of a country with either: `1,234` could be two numbers, and is refused.
    Unclear,
}

/// Whether a comma in it could stand between thousands: `1,234`, but neither `0,500` nor `12,5`.
pub fn could_be_thousands(text: &str) -> bool {
    let digits = text.trim().trim_start_matches(['-', '+']);
    let is_group = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    digits.split_once(',').is_some_and(|(first, rest)| {
        let is_first = (1..=3).contains(&first.len()) && is_group(first) && !first.starts_with('0');
        let rest = rest.split_once('.').map_or(rest, |(rest, _)| rest);
        is_first && rest.split(',').all(|group| group.len() == 3 && is_group(group))
    })
}

/// A decimal number in units of 10^-9, exactly; digits after that are cut. None: it is no number.
pub fn decimal(text: &str, point: Point) -> Option<i128> {
    let text = text.trim();
    let point = match point {
        Point::Dot => '.',
        Point::Comma => ',',
        Point::Unclear if could_be_thousands(text) => return None,
        Point::Either | Point::Unclear if text.contains(',') => ',',
        Point::Either | Point::Unclear => '.',
    };
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok().filter(|e| e.abs() <= 30)?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once(point).unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() || whole.len() > 25 {
        return None;
    }
    let mut value: i128 = 0;
    // The exponent moves the place at which digits no longer count.
    let mut places = i32::try_from(SCALE).ok()? + exponent;
    for digit in whole.bytes() {
        value = value.checked_mul(10)?.checked_add(digit_value(digit)?)?;
    }
    for digit in fraction.bytes() {
        let digit = digit_value(digit)?;
        if places > 0 {
            value = value.checked_mul(10)?.checked_add(digit)?;
            places -= 1;
        }
    }
    let power = 10_i128.checked_pow(places.unsigned_abs())?;
    let value = if places >= 0 { value.checked_mul(power)? } else { value / power };
    Some(if negative { -value } else { value })
}

fn digit_value(byte: u8) -> Option<i128> {
    byte.is_ascii_digit().then(|| i128::from(byte - b'0'))
}

/// How a duration is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Seconds,
    Minutes,
    Hours,
    Days,
    /// `h:m:s` or `m:s`.
    Clock,
}

pub const UNITS: [(&str, Unit); 8] = [
    ("s", Unit::Seconds),
    ("ms", Unit::Milliseconds),
    ("us", Unit::Microseconds),
    ("ns", Unit::Nanoseconds),
    ("min", Unit::Minutes),
    ("h", Unit::Hours),
    ("days", Unit::Days),
    ("hms", Unit::Clock),
];

impl Unit {
    pub fn of(name: &str) -> Option<Self> {
        UNITS.iter().find(|(known, _)| *known == name).map(|(_, unit)| *unit)
    }

    /// Milliseconds, rounded half up.
    pub fn milliseconds(self, text: &str, point: Point) -> Result<i32, Refusal> {
        let value = match self {
            Self::Clock => clock(text, point),
            _ => decimal(text, point),
        };
        let value = value.ok_or(Refusal::NotUnderstood)?;
        let milliseconds = match self {
            Self::Nanoseconds => value / 1000 / 1000,
            Self::Microseconds => value / 1000,
            Self::Milliseconds => value,
            Self::Seconds | Self::Clock => value.saturating_mul(1000),
            Self::Minutes => value.saturating_mul(60_000),
            Self::Hours => value.saturating_mul(3_600_000),
            Self::Days => value.saturating_mul(86_400_000),
        };
        if milliseconds < 0 {
            return Err(Refusal::Negative);
        }
        i32::try_from(milliseconds.saturating_add(ONE / 2) / ONE).map_err(|_| Refusal::TooLong)
    }

    /// What a good value looks like.
    pub fn example(self) -> &'static str {
        match self {
            Self::Nanoseconds => "a number of nanoseconds such as 12500000000",
            Self::Microseconds => "a number of microseconds such as 12500000",
            Self::Milliseconds => "a number of milliseconds such as 12500",
            Self::Seconds => "a number of seconds such as 12.5, not negative",
            Self::Minutes => "a number of minutes such as 2.5",
            Self::Hours => "a number of hours such as 0.25",
            Self::Days => "a fraction of a day such as 0.001655",
            Self::Clock => "hours, minutes and seconds such as 0:02:05",
        }
    }
}

/// Why a duration was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    NotUnderstood,
    Negative,
    /// More than 2147483.647 seconds.
    TooLong,
}

/// `h:m:s` or `m:s`, in units of 10^-9 seconds.
fn clock(text: &str, point: Point) -> Option<i128> {
    let text = text.trim();
    let point = if point == Point::Unclear { Point::Either } else { point }; // seconds have no thousands
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let parts: Vec<&str> = text.split(':').collect();
    let (hours, minutes, seconds) = match parts.as_slice() {
        [hours, minutes, seconds] => (*hours, *minutes, *seconds),
        [minutes, seconds] => ("0", *minutes, *seconds),
        _ => return None,
    };
    let whole = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| decimal(text, point)).flatten();
    let (hours, minutes, seconds) = (whole(hours)?, whole(minutes)?, decimal(seconds, point)?);
    let is_minute = parts.len() == 2 || minutes < 60 * ONE;
    if !is_minute || !(0..60 * ONE).contains(&seconds) {
        return None;
    }
    let total = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(seconds)?;
    Some(if negative { -total } else { total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        for (text, expected) in [
            ("1", Some(ONE)),
            ("-0.5", Some(-ONE / 2)),
            ("1.655093E-03", Some(1_655_093)),
            ("1e3", Some(1000 * ONE)),
            (".5", Some(ONE / 2)),
            ("0.0000000019", Some(1)),
            (" 7 ", Some(7 * ONE)),
            ("1700000000.123456789123", Some(1_700_000_000_123_456_789)),
            ("", None),
            (".", None),
            ("NaN", None),
            ("Infinity", None),
            ("1,5", None),
            ("0x10", None),
            ("١٢", None),
            ("1e99", None),
            ("9999999999999999999999999999999", None),
        ] {
            assert_eq!(decimal(text, Point::Dot), expected, "{text}");
        }
        for point in [Point::Comma, Point::Either] {
            assert_eq!(decimal("12,5", point), Some(25 * ONE / 2));
            assert_eq!(decimal("1.234,5", point), None);
        }
        assert_eq!((decimal("1.5", Point::Comma), decimal("1.5", Point::Either)), (None, Some(3 * ONE / 2)));
        for text in ["1,234", "-12,345", "1,234,567", "1,234.5"] {
            assert_eq!(decimal(text, Point::Unclear), None, "{text}");
        }
        assert_eq!(Unit::Clock.milliseconds("0:00:12,345", Point::Unclear), Ok(12_345));
        for text in ["12,5", "0,500", "1234,567", "1,2345", "1.234"] {
            assert_eq!(decimal(text, Point::Unclear), decimal(text, Point::Either), "{text}");
            assert!(decimal(text, Point::Unclear).is_some(), "{text}");
        }
    }

    #[test]
    fn each_unit_becomes_milliseconds() {
        for (unit, text, expected) in [
            (Unit::Seconds, "12.5", Ok(12_500)),
            (Unit::Seconds, "1.0005", Ok(1001)),
            (Unit::Seconds, "2147483.647", Ok(i32::MAX)),
            (Unit::Seconds, "2147483.648", Err(Refusal::TooLong)),
            (Unit::Seconds, "-1", Err(Refusal::Negative)),
            (Unit::Seconds, "0:00:31", Err(Refusal::NotUnderstood)),
            (Unit::Milliseconds, "22409", Ok(22_409)),
            (Unit::Microseconds, "1500", Ok(2)),
            (Unit::Nanoseconds, "22409000000", Ok(22_409)),
            (Unit::Minutes, "2.5", Ok(150_000)),
            (Unit::Hours, "0.25", Ok(900_000)),
            (Unit::Days, "0.001655093", Ok(143_000)),
            (Unit::Clock, "0:00:31", Ok(31_000)),
            (Unit::Clock, "00:02:05.25", Ok(125_250)),
            (Unit::Clock, "75:10", Ok(4_510_000)),
            (Unit::Clock, "100:00:00", Ok(360_000_000)),
            (Unit::Clock, "0:61:00", Err(Refusal::NotUnderstood)),
            (Unit::Clock, "0:00:60", Err(Refusal::NotUnderstood)),
            (Unit::Clock, "-0:00:01", Err(Refusal::Negative)),
            (Unit::Clock, "31", Err(Refusal::NotUnderstood)),
        ] {
            assert_eq!(unit.milliseconds(text, Point::Dot), expected, "{unit:?} {text}");
        }
    }
}
