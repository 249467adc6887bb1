//! Durations in seconds, exact to the millisecond. Pure.

use super::sum::Sum;
use serde::ser::Error;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;

/// A duration in whole milliseconds, written as a number of seconds with no more digits than it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds {
    milliseconds: i128,
}

/// Up to here a double is nearer to the decimal number than to any other of three digits, so it is written as those.
const EXACT_AS_DOUBLE_MS: u64 = 1_000_000_000_000_000;

impl Seconds {
    pub fn from_milliseconds(milliseconds: i128) -> Self {
        Self { milliseconds }
    }

    /// The average, rounded half up to the millisecond, in integers. The number of calls is not 0.
    pub fn average(Sum { calls, duration_ms }: Sum) -> Self {
        let (duration_ms, calls) = if calls < 0 { (-duration_ms, -calls) } else { (duration_ms, calls) };
        let (dividend, divisor) = (2 * duration_ms + calls, 2 * calls);
        // Dividing 128 bits takes several times as long as 64, which nearly always suffice.
        let milliseconds = match (i64::try_from(dividend), i64::try_from(divisor)) {
            (Ok(dividend), Ok(divisor)) => dividend.div_euclid(divisor).into(),
            _ => dividend.div_euclid(divisor),
        };
        Self { milliseconds }
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.milliseconds < 0 { "-" } else { "" };
        let milliseconds = self.milliseconds.unsigned_abs();
        let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
        match (rest, rest % 10, rest % 100) {
            (0, _, _) => write!(f, "{sign}{seconds}"),
            (_, _, 0) => write!(f, "{sign}{seconds}.{}", rest / 100),
            (_, 0, _) => write!(f, "{sign}{seconds}.{:02}", rest / 10),
            _ => write!(f, "{sign}{seconds}.{rest:03}"),
        }
    }
}

/// A JSON number.
impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match i64::try_from(self.milliseconds) {
            Ok(milliseconds) if milliseconds % 1000 == 0 => serializer.serialize_i64(milliseconds / 1000),
            Ok(milliseconds) if milliseconds.unsigned_abs() <= EXACT_AS_DOUBLE_MS => {
                serializer.serialize_f64(milliseconds as f64 / 1000.0)
            }
            _ => RawValue::from_string(self.to_string()).map_err(S::Error::custom)?.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::response::write_json;
    use proptest::prelude::*;

    fn json(milliseconds: i128) -> String {
        let mut out = Vec::new();
        write_json(&mut out, &Seconds { milliseconds });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn digits_are_exact_beyond_the_precision_of_doubles() {
        assert_eq!(json(i128::from(i64::MAX)), "9223372036854775.807");
        assert_eq!(json(i128::from(i64::MIN)), "-9223372036854775.808");
        assert_eq!(json(1_000_000_000_000_000_000_001), "1000000000000000000.001");
        assert_eq!(Seconds { milliseconds: -1 }.to_string(), "-0.001");
    }

    proptest! {
        #[test]
        fn an_average_is_rounded_half_up(duration_ms in 0..i64::MAX, calls in 1..i64::MAX) {
            let average = Seconds::average(Sum { calls: calls.into(), duration_ms: duration_ms.into() }).milliseconds;
            let (duration_ms, calls) = (i128::from(duration_ms), i128::from(calls));
            // average - 1/2 <= duration / calls < average + 1/2
            prop_assert!((2 * average - 1) * calls <= 2 * duration_ms);
            prop_assert!(2 * duration_ms < (2 * average + 1) * calls);
        }

        #[test]
        fn seconds_are_written_with_the_digits_they_need(
            milliseconds in prop_oneof![
                0..10_000_000_000_i64,
                0..i64::MAX,
                999_999_999_990_000..1_000_000_000_010_000_i64,
            ],
            is_negative in any::<bool>(),
        ) {
            let padded = format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000);
            let expected = padded.trim_end_matches('0').trim_end_matches('.');
            let is_negative = is_negative && milliseconds > 0;
            let (sign, factor) = if is_negative { ("-", -1) } else { ("", 1) };
            let seconds = Seconds { milliseconds: factor * i128::from(milliseconds) };
            prop_assert_eq!(seconds.to_string(), format!("{sign}{expected}"));
            prop_assert_eq!(json(seconds.milliseconds), format!("{sign}{expected}"));
        }
    }
}
