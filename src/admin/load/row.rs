//! From the values of a record to what a call has. Pure.

use crate::admin::load::duration::{Point, Refusal, Unit, could_be_thousands};
use crate::admin::load::field::Alternatives;
use crate::admin::load::mapping::{DurationField, Mapping, MomentWay, Sign};
use crate::admin::load::problem::Problem;
use crate::admin::load::time::Moment;
use crate::admin::load::value::{Columns, Values};
use crate::admin::name;
use chrono::NaiveTime;
use std::borrow::Cow;

/// The longest agent id and call id, in bytes, that the database takes.
const MAX_BYTES: usize = 1000;

/// A moment, and the zone of the file's clock if it is not the organization's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At<'a> {
    pub moment: Moment,
    pub zone: Option<&'a str>,
    /// Milliseconds that it is later than a wall-clock time, by a watch: what the clock shows then depends on the zone.
    pub shift: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length<'a> {
    Milliseconds(i32),
    Until(At<'a>),
}

/// The values of a record. If the records of a call are folded, some of them may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<'a> {
    /// Empty: the record is a call of its own.
    pub call: Cow<'a, str>,
    pub company: Cow<'a, str>,
    pub organization: Cow<'a, str>,
    pub folder: Cow<'a, str>,
    pub agent: Cow<'a, str>,
    pub start: Option<At<'a>>,
    pub length: Option<Length<'a>>,
    /// How far it stands behind other records of the call in giving folder, agent, start, duration.
    pub ranks: [i16; 4],
}

/// Reads a record; none: the filter leaves it out.
pub fn read<'a>(mapping: &'a Mapping, values: &'a Values, point: Point) -> Result<Option<Row<'a>>, Problem> {
    if !mapping.filter.iter().all(|condition| condition.holds(values)) {
        return Ok(None);
    }
    let columns = &mapping.columns;
    let text =
        |field: &'a Alternatives<()>| Ok(field.text(values, columns)?.map_or(Cow::Borrowed(""), |(text, ())| text));
    let company = text(&mapping.company)?;
    let organization = text(&mapping.organization)?;
    let folder = text(&mapping.folder)?;
    let agent = text(&mapping.agent)?;
    let call = mapping.call.as_ref().map_or(Ok(Cow::Borrowed("")), text)?;
    let is_one_of_several = mapping.folds && !call.is_empty();
    for (kind, field, value) in
        [("company", &mapping.company, &company), ("organization", &mapping.organization, &organization)]
    {
        if value.is_empty() {
            return Err(empty(&field.label(kind, columns), &format!("{kind} must have a name")));
        }
    }
    if folder.is_empty() && !is_one_of_several {
        return Err(empty(&mapping.folder.label("folder", columns), "a folder must have a name"));
    }
    refuse_unless_id(&agent, "an agent id", || mapping.agent.label("agent", columns))?;
    if let Some(field) = &mapping.call {
        refuse_unless_id(&call, "the id of a call", || field.label("call", columns))?;
    }
    let start = moment("start", &mapping.start, values, columns, point)?;
    if start.is_none() && !is_one_of_several {
        let (label, style) = (mapping.start.label("start", columns), style_of(&mapping.start));
        return Err(empty(&label, &format!("expected {style}")));
    }
    let length = length(mapping, start, values, point)?;
    if length.is_none() && !is_one_of_several {
        let (label, expected) = match &mapping.duration {
            DurationField::Number(field) => {
                let unit = field.list.first().map_or(Unit::Seconds, |(_, unit)| *unit);
                (field.label("duration", columns), unit.example().to_owned())
            }
            DurationField::End(field) => (field.label("duration", columns), style_of(field)),
        };
        return Err(empty(&label, &format!("expected {expected}")));
    }
    let takes = &mapping.takes;
    let ranks = [&takes.folder, &takes.agent, &takes.start, &takes.duration].map(|take| take.rank(values));
    Ok(Some(Row { call, company, organization, folder, agent, start, length, ranks }))
}

fn style_of(field: &Alternatives<MomentWay>) -> String {
    field.list.first().map_or_else(String::new, |(_, way)| way.style.example())
}

fn empty(label: &str, reason: &str) -> Problem {
    Problem::of_value(label, "", reason, "map another column, give a default, or leave such records out with a filter")
}

fn refuse_unless_id(value: &str, what: &str, label: impl Fn() -> String) -> Result<(), Problem> {
    let reason = if value.len() > MAX_BYTES {
        format!("{what} has at most {MAX_BYTES} bytes")
    } else if value.chars().any(char::is_control) {
        format!("{what} has no control characters")
    } else {
        return Ok(());
    };
    Err(Problem::of_value(&label(), value, reason, "is the right column mapped?"))
}

fn moment<'a>(
    name: &str,
    field: &'a Alternatives<MomentWay>,
    values: &'a Values,
    columns: &Columns,
    point: Point,
) -> Result<Option<At<'a>>, Problem> {
    let Some((text, way)) = field.text(values, columns)? else { return Ok(None) };
    let label = || field.label(name, columns);
    let Some(mut moment) = way.style.parse(&text, point) else {
        let (reason, hint) = if !looks_like_time(&text, &way.style) {
            (format!("expected {}", way.style.example()), OTHER_PATTERN)
        } else if text.get(16..).is_some_and(|rest| rest.contains(char::is_alphabetic)) {
            ("of the names of zones only Z, UTC and GMT are read".to_owned(), OTHER_ZONE)
        } else {
            ("there is no such time".to_owned(), OTHER_PATTERN)
        };
        return Err(Problem::of_value(&label(), &text, reason, hint));
    };
    let mut shift = 0;
    for (sign, duration) in &way.shifts {
        let Some(milliseconds) = milliseconds(name, duration, values, columns, point)? else { continue };
        let milliseconds = i64::from(milliseconds) * if *sign == Sign::Minus { -1 } else { 1 };
        // A date and a time of day make a wall-clock time.
        let is_date = matches!(moment, Moment::Local(at) if at.time() == NaiveTime::MIN);
        if matches!(moment, Moment::Instant(_)) || is_date && *sign == Sign::Plus {
            moment = moment
                .plus(milliseconds)
                .ok_or_else(|| Problem::of_value(&label(), &text, "there is no such time", ""))?;
        } else {
            shift += milliseconds;
        }
    }
    Ok(Some(At { moment, zone: way.zone.as_deref(), shift }))
}

const OTHER_PATTERN: &str = "another way to write times is given by --start-pattern, such as 'DD.MM.YYYY HH24:MI:SS'";
const OTHER_ZONE: &str = "--time-zone names the zone of all times, and a `match` such as '^.{19}' leaves the name out";

/// Whether the digits stand where ISO 8601 has them, so that only their values can be wrong.
fn looks_like_time(text: &str, style: &crate::admin::load::time::Style) -> bool {
    let digits = |range: std::ops::Range<usize>| {
        text.as_bytes().get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    style.patterns.is_empty()
        && style.unit.is_none()
        && [0..4, 5..7, 8..10, 11..13, 14..16].into_iter().all(digits)
        && text.as_bytes().get(4) == Some(&b'-')
}

fn length<'a>(
    mapping: &'a Mapping,
    start: Option<At<'a>>,
    values: &'a Values,
    point: Point,
) -> Result<Option<Length<'a>>, Problem> {
    match &mapping.duration {
        DurationField::Number(field) => {
            Ok(milliseconds("duration", field, values, &mapping.columns, point)?.map(Length::Milliseconds))
        }
        DurationField::End(field) => {
            let columns = &mapping.columns;
            let Some(end) = moment("duration", field, values, columns, point)? else { return Ok(None) };
            // Those in different zones, and those that a clock that is set back could show, are compared when the zone
            // is known.
            let is_before = start.is_some_and(|start| match (end.moment, start.moment) {
                (Moment::Local(end_at), Moment::Local(start_at)) => {
                    end.zone == start.zone
                        && end_at.and_utc().timestamp_millis() + end.shift + A_DAY
                            < start_at.and_utc().timestamp_millis() + start.shift
                }
                (Moment::Instant(end), Moment::Instant(start)) => end < start,
                _ => false,
            });
            if is_before {
                let text = field.text(values, columns)?.map(|(text, _)| text.into_owned()).unwrap_or_default();
                return Err(Problem::of_value(&field.label("duration", columns), &text, ENDS_EARLY, ENDS_EARLY_HINT));
            }
            Ok(Some(Length::Until(end)))
        }
    }
}

/// In milliseconds. No clock is set back by more.
const A_DAY: i64 = 86_400_000;
pub const ENDS_EARLY: &str = "it ends before it starts";
pub const ENDS_EARLY_HINT: &str = "is the zone of both times the same? A filter leaves such records out";

fn milliseconds(
    name: &str,
    field: &Alternatives<Unit>,
    values: &Values,
    columns: &Columns,
    point: Point,
) -> Result<Option<i32>, Problem> {
    let Some((text, unit)) = field.text(values, columns)? else { return Ok(None) };
    match unit.milliseconds(&text, point) {
        Ok(milliseconds) => Ok(Some(milliseconds)),
        Err(refusal) => {
            let hint = if *unit != Unit::Clock && Unit::Clock.milliseconds(&text, point).is_ok() {
                "--unit hms reads hours, minutes and seconds"
            } else if could_be_thousands(&text) {
                "--decimal , reads it as a decimal comma; thousands must not be separated"
            } else if text.contains(',') {
                "--decimal , reads a decimal comma"
            } else {
                "another unit is given by --unit: s, ms, us, ns, min, h, days, hms"
            };
            let reason = match refusal {
                Refusal::TooLong => "more than 2147483.647 seconds".to_owned(),
                Refusal::Negative => "expected a number that is not negative".to_owned(),
                Refusal::NotUnderstood if point == Point::Unclear && could_be_thousands(&text) => {
                    "the comma may stand for the decimal point or between thousands".to_owned()
                }
                Refusal::NotUnderstood => format!("expected {}", unit.example()),
            };
            Err(Problem::of_value(&field.label(name, columns), &text, reason, hint))
        }
    }
}

/// Refuses a name of a company, organization or folder by the rule that holds everywhere.
pub fn check_name(kind: &str, name: &str, label: &str) -> Result<(), Problem> {
    name::check(kind, name).map_err(|error| {
        let hint = if error.message.contains("white space") {
            "`trim = true` in the mapping leaves out white space at the ends"
        } else {
            "`match` in the mapping takes a part of the value"
        };
        Problem::of_value(label, name, error.message, hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::load::spec::Spec;
    use chrono::NaiveDate;

    const MAP: &str = "company = { value = 'acme' }\norganization = { value = 'support' }\n";

    fn reading(map: &str, record: &[(&str, &str)]) -> Result<Option<String>, Problem> {
        let (spec, has_call) = Spec::read(None, Some(&format!("{MAP}{map}")), &[]).unwrap();
        let mapping = Mapping::new(&spec, has_call).unwrap();
        let mut values = Values::default();
        for name in mapping.columns.names() {
            values.push(record.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value).as_bytes());
        }
        Ok(read(&mapping, &values, Point::Dot)?.map(|row| {
            format!("{}|{}|{}|{:?}|{:?}|{:?}", row.folder, row.agent, row.call, row.start, row.length, row.ranks)
        }))
    }

    const GOOD: [(&str, &str); 4] =
        [("folder", "Sales"), ("agent", "anna"), ("start", "2026-03-03 08:15:00"), ("seconds", "12.5")];

    #[test]
    fn a_record_becomes_a_row() {
        let start = Moment::Local(NaiveDate::from_ymd_opt(2026, 3, 3).unwrap().and_hms_opt(8, 15, 0).unwrap());
        let expected = format!(
            "Sales|anna||{:?}|{:?}|[0, 0, 0, 0]",
            Some(At { moment: start, zone: None, shift: 0 }),
            Some(Length::Milliseconds(12_500))
        );
        assert_eq!(reading("", &GOOD).unwrap(), Some(expected));
        assert_eq!(reading("filter = ['agent=bert']", &GOOD).unwrap(), None);
    }

    #[test]
    fn a_start_is_moved_and_has_a_zone() {
        let map = "start = { column = 'd', pattern = 'DD.MM.YYYY', zone = 'Europe/Berlin', \
                   plus = { column = 't', unit = 'days' } }";
        let record = [("folder", "S"), ("d", "03.03.2026"), ("t", "0.5"), ("seconds", "1")];
        let read = reading(map, &record).unwrap().unwrap();
        assert!(read.contains("2026-03-03T12:00:00") && read.contains("Europe/Berlin"), "{read}");
        assert!(read.contains("shift: 0"), "{read}");
        let map = "start = { column = 'end', minus = { column = 'seconds' } }";
        let record = [("folder", "S"), ("end", "2026-03-29 03:10:00"), ("seconds", "1200")];
        let read = reading(map, &record).unwrap().unwrap();
        assert!(read.contains("2026-03-29T03:10:00") && read.contains("shift: -1200000"), "{read}");
    }

    #[test]
    fn problems_name_column_value_and_reason() {
        for (change, column, reason) in [
            (("folder", ""), "folder", "a folder must have a name"),
            (("start", ""), "start", "expected a time"),
            (("start", "2026-02-30 08:00"), "start", "there is no such time"),
            (("start", "03/03/2026"), "start", "expected a time such as"),
            (("start", "2026-03-03 08:15:00 CET"), "start", "only Z, UTC and GMT are read"),
            (("seconds", ""), "seconds", "expected a number of seconds"),
            (("seconds", "-1"), "seconds", "expected a number that is not negative"),
            (("seconds", "9999999"), "seconds", "more than"),
            (("agent", "a\nb"), "agent", "control"),
        ] {
            let record: Vec<(&str, &str)> =
                GOOD.iter().map(|&(name, value)| if name == change.0 { change } else { (name, value) }).collect();
            let problem = reading("", &record).unwrap_err();
            assert!(problem.column == column && problem.reason.contains(reason), "{problem:?}");
        }
        let clock = GOOD.map(|(name, value)| if name == "seconds" { (name, "0:00:31") } else { (name, value) });
        assert!(reading("", &clock).unwrap_err().hint.contains("--unit hms"));
    }

    #[test]
    fn records_that_are_folded_may_say_nothing() {
        let map = "call = 'id'\nfolder = { column = 'folder', where = ['leg=a'], prefer = ['leg=b', 'leg=a'] }";
        let record = [("id", "1"), ("folder", "Sales"), ("leg", "b")];
        assert_eq!(reading(map, &record).unwrap(), Some("||1|None|None|[0, 0, 0, 0]".into()));
        let other = [("id", "1"), ("folder", "Sales"), ("leg", "a")];
        assert_eq!(reading(map, &other).unwrap(), Some("Sales||1|None|None|[1, 0, 0, 0]".into()));
    }
}
