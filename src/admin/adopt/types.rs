//! What the catalogue says about the types of a mapping's expressions decides how each is converted. Pure.

mod conversions;
mod expected;

pub use conversions::{Duration, Name, Start, literal};
pub use expected::Expected;

use crate::admin::adopt::mapping::Mapping;
use crate::admin::error::Error;

/// The type of one expression, as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub key: String,
    /// Without modifier; of a domain, the type under it.
    pub type_name: String,
    /// Quoted and qualified.
    pub collation: Option<String>,
    pub is_deterministic: bool,
}

/// A mapping with what its types decide.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub mapping: Mapping,
    pub company: Name,
    pub organization: Name,
    pub folder: Name,
    pub agent: Name,
    pub start: Start,
    /// The start's expression, of text a timestamp.
    pub start_sql: String,
    pub duration: Duration,
    /// The duration's expression, of text a number.
    pub duration_sql: String,
    /// The expressions that would be read wrongly if they had another type, and the types that they have.
    pub expected: Vec<Expected>,
}

impl Resolved {
    /// Those types by key.
    pub fn types(&self) -> serde_json::Value {
        self.expected.iter().map(|expected| (expected.key, expected.type_name)).collect()
    }
}

/// Decides the conversions, or asks for what the types leave open.
pub fn resolve(mapping: Mapping, columns: &[Column]) -> Result<Resolved, Error> {
    let name = |key: &str| columns.iter().find(|column| column.key == key).map_or(Name::Other, name);
    let of = |key: &str| columns.iter().find(|column| column.key == key).map_or("", |column| &column.type_name);
    let (start, start_sql) = start(&mapping, of("start"))?;
    let (duration, duration_sql) = duration(&mapping, of("duration"))?;
    if mapping.get("changed").is_some() && of("changed") != "timestamp with time zone" {
        return Err(Error::new(
            format!("changed is of type {:?}, which is no instant", of("changed")),
            "of a timestamp, give its zone, such as \"(updated at time zone 'UTC')\"",
        ));
    }
    let padded = ["company", "organization", "folder", "agent"].into_iter().filter(|key| of(key) == "character");
    let expected =
        ["start", "duration"].into_iter().chain(padded).filter_map(|key| Expected::new(&mapping, key, of(key)));
    let expected = expected.collect();
    Ok(Resolved {
        expected,
        company: name("company"),
        organization: name("organization"),
        folder: name("folder"),
        agent: name("agent"),
        start,
        start_sql,
        duration,
        duration_sql,
        mapping,
    })
}

fn name(column: &Column) -> Name {
    let collation = column.collation.clone().unwrap_or_else(|| "pg_catalog.\"default\"".into());
    match column.type_name.as_str() {
        "text" | "character varying" => Name::Text { collation, is_deterministic: column.is_deterministic },
        "character" => Name::Padded { collation },
        "smallint" | "integer" | "bigint" => Name::Integer,
        _ => Name::Other,
    }
}

fn start(mapping: &Mapping, type_name: &str) -> Result<(Start, String), Error> {
    let expression = mapping.expression("start").to_owned();
    let wall = || mapping.get("time_zone").map_or(Start::Wall, |zone| Start::WallIn(zone.to_owned()));
    let number = match type_name {
        "timestamp with time zone" => return Ok((Start::Instant, expression)),
        "timestamp without time zone" => return Ok((wall(), expression)),
        "date" => return Ok((Start::Date, expression)),
        "text" | "character varying" | "character" => {
            let pattern = mapping.get("start_pattern");
            if let (None, Some(_)) = (pattern, mapping.get("start_unit")) {
                let start = Start::Epoch { per_second: per_second(mapping)?, number: "numeric" };
                return Ok((start, number_of(&expression)));
            }
            let Some(pattern) = pattern else {
                return Err(Error::new(
                    "start is text, and the mapping has no start_pattern",
                    "give one, such as --start-pattern 'YYYY-MM-DD HH24:MI:SS'; of numbers since 1970, --start-unit s",
                ));
            };
            return Ok((wall(), text_start(&format!("(({expression})::text)"), pattern)?));
        }
        "smallint" | "integer" | "bigint" => "bigint",
        "numeric" => "numeric",
        "real" | "double precision" => "float8",
        other => {
            return Err(Error::new(
                format!("start is of type {other:?}, which is no moment"),
                "give an expression of a timestamp, a date plus a time, a number of seconds since 1970, or text",
            ));
        }
    };
    Ok((Start::Epoch { per_second: per_second(mapping)?, number }, expression))
}

fn per_second(mapping: &Mapping) -> Result<u32, Error> {
    match mapping.get("start_unit") {
        Some("s") => Ok(1),
        Some("ms") => Ok(1000),
        _ => Err(Error::new(
            "start is a number, and the mapping has no start_unit",
            "give --start-unit s or --start-unit ms",
        )),
    }
}

/// The number that a text is; null for text that is none.
fn number_of(expression: &str) -> String {
    let text = format!("btrim(({expression})::text)");
    format!("case when {text} ~ '^-?[0-9]{{1,15}}([.][0-9]{{1,12}})?$' then {text}::numeric end")
}

/// The expression of a timestamp out of text of a fixed pattern; null for text that is not a moment.
fn text_start(text: &str, pattern: &str) -> Result<String, Error> {
    const TOKENS: [(&str, usize, &str); 7] = [
        ("YYYY", 4, "(19|20)[0-9]{2}"),
        ("HH24", 2, "([01][0-9]|2[0-3])"),
        ("MM", 2, "(0[1-9]|1[0-2])"),
        ("DD", 2, "(0[1-9]|[12][0-9]|3[01])"),
        ("MI", 2, "[0-5][0-9]"),
        ("SS", 2, "[0-5][0-9]"),
        ("MS", 3, "[0-9]{3}"),
    ];
    let (mut rest, mut at, mut regex) = (pattern, 1, String::from("^"));
    let mut parts = std::collections::BTreeMap::new();
    while let Some(character) = rest.chars().next() {
        if let Some((token, width, digits)) = TOKENS.iter().find(|(token, ..)| rest.starts_with(token)) {
            regex.push_str(digits);
            parts.insert(*token, format!("substr({text}, {at}, {width})::int"));
            at += width;
            rest = &rest[token.len()..];
        } else {
            match character {
                '\'' => regex.push_str("''"),
                other if other.is_alphanumeric() || other == ' ' => regex.push(other),
                other => regex.extend(['[', other, ']']),
            }
            if matches!(character, '^' | '[' | ']' | '\\') {
                return Err(Error::new(
                    format!("start_pattern cannot have {character:?}"),
                    "give start as a timestamp",
                ));
            }
            at += 1;
            rest = &rest[character.len_utf8()..];
        }
    }
    let part = |token: &str| parts.get(token).map_or("0", String::as_str);
    let (Some(year), Some(month), Some(day)) = (parts.get("YYYY"), parts.get("MM"), parts.get("DD")) else {
        return Err(Error::new("start_pattern lacks a part of the date", "it needs YYYY, MM and DD"));
    };
    // A day that the month does not have would be one of the next month.
    let moment = format!(
        "make_timestamp({year}, {month}, 1, {}, {}, 0) + ({day} - 1) * interval '1 day' \
         + ({} * 1000 + {}) * interval '1 millisecond'",
        part("HH24"),
        part("MI"),
        part("SS"),
        part("MS")
    );
    Ok(format!(
        "case when {text} ~ '{regex}$' then case when {day} <= extract(day from make_date({year}, {month}, 1) \
         + interval '1 month - 1 day') then {moment} end end"
    ))
}

fn duration(mapping: &Mapping, type_name: &str) -> Result<(Duration, String), Error> {
    let expression = mapping.expression("duration");
    let unit = mapping.get("unit");
    match type_name {
        "interval" => Ok((Duration::Interval, expression.to_owned())),
        "time without time zone" => Ok((Duration::Interval, format!("({expression})::interval"))),
        "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision" => {
            scaled(expression.to_owned(), unit, matches!(type_name, "smallint" | "integer" | "bigint"))
        }
        "text" | "character varying" | "character" => {
            let text = format!("btrim(({expression})::text)");
            if unit == Some("hms") {
                return Ok((
                    Duration::Interval,
                    format!(
                        "case when {text} ~ '^[0-9]{{1,4}}:[0-5][0-9]:[0-5][0-9]([.][0-9]{{1,6}})?$' \
                         then {text}::interval \
                         when {text} ~ '^[0-9]{{1,2}}:[0-5][0-9]$' then ('0:' || {text})::interval end"
                    ),
                ));
            }
            scaled(number_of(expression), unit, false)
        }
        other => Err(Error::new(
            format!("duration is of type {other:?}, which is no duration"),
            "give an expression of a number, an interval or text; of two timestamps: ended - started",
        )),
    }
}

fn scaled(expression: String, unit: Option<&str>, is_whole: bool) -> Result<(Duration, String), Error> {
    match unit {
        Some("s") => Ok((Duration::Seconds { is_whole }, expression)),
        Some("ms") => Ok((Duration::Milliseconds, expression)),
        Some("days") => Ok((Duration::Seconds { is_whole: false }, format!("({expression}) * 86400"))),
        _ => Err(Error::new(
            "duration is a number, and the mapping has no unit",
            "give --unit s, --unit ms or --unit days; for text like 1:02:03, --unit hms",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(extra: &[(&str, &str)]) -> Mapping {
        let pairs = [
            ("relation", "a"),
            ("company", "'c'"),
            ("organization", "o"),
            ("folder", "f"),
            ("start", "s"),
            ("duration", "d"),
        ];
        let pairs: Vec<(String, String)> =
            pairs.iter().chain(extra).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Mapping::read(None, &pairs).unwrap()
    }

    #[test]
    fn missing_units_and_zones_are_asked_for_by_name() {
        for (type_name, asked) in [("bigint", "start_unit"), ("text", "start_pattern"), ("uuid", "no moment")] {
            let error = start(&mapping(&[]), type_name).unwrap_err();
            assert!(error.message.contains(asked), "{error:?}");
        }
        for (type_name, asked) in [("numeric", "no unit"), ("text", "no unit"), ("uuid", "no duration")] {
            let error = duration(&mapping(&[]), type_name).unwrap_err();
            assert!(error.message.contains(asked), "{error:?}");
        }
    }

    #[test]
    fn the_type_of_the_start_decides_the_zone() {
        let berlin = mapping(&[("time_zone", "Europe/Berlin")]);
        assert_eq!(start(&mapping(&[]), "timestamp without time zone").unwrap().0, Start::Wall);
        assert_eq!(start(&berlin, "timestamp without time zone").unwrap().0, Start::WallIn("Europe/Berlin".into()));
        assert_eq!(start(&berlin, "timestamp with time zone").unwrap().0, Start::Instant);
    }

    #[test]
    fn a_pattern_without_a_date_is_refused() {
        assert!(text_start("t", "HH24:MI:SS").is_err());
        assert!(text_start("t", "DD.MM.YYYY HH24:MI:SS").unwrap().contains("substr(t, 7, 4)::int"));
    }
}
