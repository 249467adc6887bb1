//! What a time zone is by PostgreSQL's own rules: when its offset changes, and what that makes of a moment. Pure; where
//! the changes come from is [`resolve`](super::resolve)'s business.

use chrono::{DateTime, NaiveDateTime};

/// The changes of the offset, in seconds since 1970 and seconds east, in order; the first one holds from the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone(Vec<(i64, i32)>);

impl Zone {
    pub fn new(mut changes: Vec<(i64, i32)>) -> Self {
        changes.sort_unstable();
        changes.dedup_by_key(|(_, offset)| *offset);
        Self(changes)
    }

    fn offset_at(&self, second: i64) -> i32 {
        let after = self.0.partition_point(|(from, _)| *from <= second);
        self.0.get(after.saturating_sub(1)).map_or(0, |(_, offset)| *offset)
    }

    /// Wall-clock time of an instant, which is in microseconds since 1970.
    pub fn local(&self, instant: i64) -> Option<NaiveDateTime> {
        let offset = self.offset_at(instant.div_euclid(1_000_000));
        DateTime::from_timestamp_micros(instant + i64::from(offset) * 1_000_000).map(|at| at.naive_utc())
    }

    /// The instant of a wall-clock time, in microseconds, and the earlier one of a time that the clock shows twice. One
    /// that it leaves out is read with the offset from before the change: as PostgreSQL has it.
    pub fn instants(&self, local: NaiveDateTime) -> (i64, Option<i64>) {
        let micros = local.and_utc().timestamp_micros();
        let second = micros.div_euclid(1_000_000);
        let with = |offset: i32| micros - i64::from(offset) * 1_000_000;
        // The changes that a clock at this time could have just seen, or be about to see.
        let near = |at: i64| (second - 86_400..=second + 86_400).contains(&at);
        for pair in self.0.windows(2) {
            let [(_, before), (change, after)] = pair else { continue };
            if !near(*change) {
                continue;
            }
            let (early, late) = (second - i64::from(*before), second - i64::from(*after));
            if early < *change && late < *change {
                return (with(*before), None);
            }
            if (early >= *change) != (late >= *change) {
                return if early > late { (with(*before), None) } else { (with(*after), Some(with(*before))) };
            }
        }
        let guess = self.offset_at(second - i64::from(self.offset_at(second)));
        (with(guess), None)
    }
}

/// The start, and the microseconds to the end, of a call whose start and end each have one or two instants: the
/// shortest that is not negative. Only so is a call that ends after the clock was set back as long as it was.
pub fn shortest(start: (i64, Option<i64>), end: (i64, Option<i64>)) -> Option<(i64, i64)> {
    let both = |(later, earlier): (i64, Option<i64>)| std::iter::once(later).chain(earlier);
    let all = both(start).flat_map(|from| both(end).map(move |to| (from, to - from)));
    all.filter(|(_, length)| *length >= 0).min_by_key(|(_, length)| *length)
}

/// What to do about a name that [`callstats.time_zone_problem`](../../../deploy/schema.sql) refuses.
pub fn city(zone: &str) -> String {
    let city = match zone.to_uppercase().as_str() {
        "CET" | "MET" => "Europe/Brussels",
        "EET" => "Europe/Athens",
        "WET" => "Europe/Lisbon",
        _ => return "use the IANA name of a city, such as Europe/Berlin".to_owned(),
    };
    format!("use the zone of a city, such as {city}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Berlin in 2026.
    fn berlin() -> Zone {
        Zone::new(vec![(1_767_225_600, 3600), (1_774_746_000, 7200), (1_792_890_000, 3600)])
    }

    fn local(text: &str) -> NaiveDateTime {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap()
    }

    fn instant(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    #[test]
    fn instants_become_wall_clock_times() {
        for (at, expected) in [
            ("2026-03-29T00:59:59Z", "2026-03-29 01:59:59"),
            ("2026-03-29T01:00:00Z", "2026-03-29 03:00:00"),
            ("2026-10-25T00:30:00Z", "2026-10-25 02:30:00"),
            ("2026-10-25T01:30:00Z", "2026-10-25 02:30:00"),
        ] {
            assert_eq!(berlin().local(instant(at)), Some(local(expected)), "{at}");
        }
    }

    #[test]
    fn wall_clock_times_become_instants_as_postgresql_has_it() {
        for (text, expected) in [
            ("2026-01-15 10:00:00", "2026-01-15T09:00:00Z"),
            ("2026-03-29 01:59:59", "2026-03-29T00:59:59Z"),
            ("2026-03-29 02:30:00", "2026-03-29T01:30:00Z"), // left out
            ("2026-03-29 03:00:00", "2026-03-29T01:00:00Z"),
            ("2026-07-15 10:00:00", "2026-07-15T08:00:00Z"),
            ("2026-10-25 01:59:59", "2026-10-24T23:59:59Z"),
            ("2026-10-25 02:30:00", "2026-10-25T01:30:00Z"), // twice
            ("2026-10-25 03:00:00", "2026-10-25T02:00:00Z"),
        ] {
            assert_eq!(berlin().instants(local(text)).0, instant(expected), "{text}");
        }
        assert_eq!(Zone::new(vec![(0, 0)]).instants(local("2026-01-01 00:00:00")).0, instant("2026-01-01T00:00:00Z"));
    }

    #[test]
    fn calls_over_a_change_of_the_clock_are_the_shortest_possible() {
        let length = |start: &str, end: &str| {
            let day = |time: &str| berlin().instants(local(&format!("2026-10-25 {time}")));
            shortest(day(start), day(end)).map(|(_, length)| length / 1_000_000)
        };
        for (start, end, expected) in [
            ("01:50:00", "02:10:00", Some(1200)),
            ("02:59:50", "02:00:10", Some(20)),
            ("02:10:00", "02:20:00", Some(600)),
            ("02:10:00", "03:10:00", Some(3600)),
            ("01:50:00", "03:10:00", Some(8400)),
            ("02:10:00", "01:50:00", None),
            ("04:00:00", "02:30:00", None),
        ] {
            assert_eq!(length(start, end), expected, "{start} {end}");
        }
        // Of two starts with the same length the later one, as without an end.
        assert_eq!(shortest((10, Some(5)), (11, Some(6))), Some((10, 1)));
    }
}
