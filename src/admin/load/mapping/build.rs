//! A mapping out of its specification: what each key says, or which one is wrong. Pure.

use crate::admin::error::Error;
use crate::admin::load::condition::Condition;
use crate::admin::load::duration::{Point, UNITS, Unit};
use crate::admin::load::field::{Alternatives, Extract, Source};
use crate::admin::load::mapping::{DurationField, FileShape, Format, Mapping, MomentWay, Sign, Take, TakeField, Takes};
use crate::admin::load::spec::{FieldSpec, OneOrMore, Spec, Wrong, wrong};
use crate::admin::load::time::{Pattern, Style};
use crate::admin::load::value::{Columns, Template};
use encoding_rs::Encoding;
use regex::Regex;
use toml::Value;

impl Mapping {
    pub fn new(spec: &Spec, has_call: bool) -> Result<Self, Error> {
        Self::build(spec, has_call).map_err(|wrong| spec.error(&wrong))
    }

    fn build(spec: &Spec, has_call: bool) -> Result<Self, Wrong> {
        let mut columns = Columns::default();
        let call = field("call", spec.call.as_ref(), &mut columns)?;
        let company = field("company", spec.company.as_ref(), &mut columns)?;
        let organization = field("organization", spec.organization.as_ref(), &mut columns)?;
        let [folder_spec, agent_spec, start_spec, duration_spec] =
            [("folder", &spec.folder), ("agent", &spec.agent), ("start", &spec.start), ("duration", &spec.duration)]
                .map(|(name, value)| {
                    value.as_ref().map_or_else(|| Ok(FieldSpec::default()), |value| FieldSpec::read(name, value))
                });
        let (folder_spec, agent_spec, start_spec, duration_spec) =
            (folder_spec?, agent_spec?, start_spec?, duration_spec?);
        let folder = texts("folder", &folder_spec, &mut columns)?;
        let agent = texts("agent", &agent_spec, &mut columns)?;
        let start = moments("start", &start_spec, &mut columns)?;
        let duration = match &duration_spec.end {
            Some(end) => {
                DurationField::End(moments("duration's end", &FieldSpec::read("duration's end", end)?, &mut columns)?)
            }
            None => DurationField::Number(durations_of("duration", &duration_spec, &mut columns)?),
        };
        let ends = [Take::First, Take::Last, Take::Longest];
        let starts = [Take::Earliest, Take::Latest, Take::First, Take::Last, Take::Longest];
        let durations = [Take::Longest, Take::Sum, Take::First, Take::Last, Take::Span];
        let takes = Takes {
            folder: take("folder", &folder_spec, Take::First, &ends, &mut columns)?,
            agent: take("agent", &agent_spec, Take::Longest, &ends, &mut columns)?,
            start: take("start", &start_spec, Take::Earliest, &starts, &mut columns)?,
            duration: take("duration", &duration_spec, Take::Longest, &durations, &mut columns)?,
        };
        let mut defined = Vec::new();
        for (name, value) in &spec.define {
            let label = format!("definition of {name}");
            let text = field(&label, Some(value), &mut columns)?;
            defined.push((columns.place(name), required(&label, text)?));
        }
        let filter = conditions("filter", &spec.filter, &mut columns)?;
        Ok(Self {
            file: file(spec)?,
            call,
            company: required("company", company)?,
            organization: required("organization", organization)?,
            folder,
            agent,
            start,
            duration,
            defined,
            filter,
            folds: spec.fold.unwrap_or(has_call),
            takes,
            point: match spec.decimal.as_deref() {
                None => None,
                Some(".") => Some(Point::Dot),
                Some(",") => Some(Point::Comma),
                Some("either") => Some(Point::Either),
                Some(_) => return Err(wrong("decimal", "is neither a point, nor a comma, nor either")),
            },
            columns,
        })
    }
}

fn field(name: &str, value: Option<&Value>, columns: &mut Columns) -> Result<Option<Alternatives<()>>, Wrong> {
    let Some(value) = value else { return Ok(None) };
    let spec = FieldSpec::read(name, value)?;
    if spec.take.is_some() || !spec.prefer.is_empty() {
        return Err(wrong(name, "has take or prefer, which are for folder, agent, start and duration"));
    }
    texts(name, &spec, columns).map(Some)
}

fn required<T>(name: &str, field: Option<T>) -> Result<T, Wrong> {
    field.ok_or_else(|| wrong(name, "is missing"))
}

/// The ways to make a field, each with what `way` reads of it.
fn alternatives<T>(
    name: &str,
    spec: &FieldSpec,
    columns: &mut Columns,
    way: impl Fn(&FieldSpec, &mut Columns) -> Result<T, Wrong>,
) -> Result<Alternatives<T>, Wrong> {
    let list: Result<Vec<(Extract, T)>, Wrong> = spec
        .alternatives(name)?
        .iter()
        .map(|inner| Ok((extract(name, inner, columns)?, way(inner, columns)?)))
        .collect();
    Ok(Alternatives { list: list?, default: spec.default.clone(), is_optional: spec.optional })
}

fn texts(name: &str, spec: &FieldSpec, columns: &mut Columns) -> Result<Alternatives<()>, Wrong> {
    if name == "agent" && spec.column.is_none() && spec.value.is_none() && spec.first.is_none() {
        return Ok(Alternatives { list: Vec::new(), default: None, is_optional: true });
    }
    alternatives(name, spec, columns, |inner, _| {
        if inner.pattern.is_some()
            || inner.unit.is_some()
            || inner.zone.is_some()
            || inner.end.is_some()
            || inner.plus.is_some()
            || inner.minus.is_some()
        {
            return Err(wrong(name, "has a key that is for times: pattern, unit, zone, end, plus or minus"));
        }
        Ok(())
    })
}

fn durations_of(name: &str, spec: &FieldSpec, columns: &mut Columns) -> Result<Alternatives<Unit>, Wrong> {
    alternatives(name, spec, columns, |inner, _| {
        if inner.pattern.is_some() || inner.zone.is_some() || inner.plus.is_some() || inner.minus.is_some() {
            return Err(wrong(name, "has a key that is for a start: pattern, zone, plus or minus"));
        }
        let unit = inner.unit.as_deref().unwrap_or("s");
        Unit::of(unit).ok_or_else(|| no_unit(name, unit))
    })
}

fn moments(name: &str, spec: &FieldSpec, columns: &mut Columns) -> Result<Alternatives<MomentWay>, Wrong> {
    alternatives(name, spec, columns, |inner, columns| {
        let unit = match inner.unit.as_deref() {
            None => None,
            Some(unit) => match Unit::of(unit) {
                Some(Unit::Clock | Unit::Minutes | Unit::Hours) | None => return Err(no_unit(name, unit)),
                unit => unit,
            },
        };
        let patterns = inner.pattern.as_ref().map(OneOrMore::list).unwrap_or_default();
        let patterns: Result<Vec<Pattern>, String> = patterns.into_iter().map(Pattern::new).collect();
        let patterns = patterns.map_err(|error| wrong(name, &format!("is wrong: {error}")))?;
        let mut shifts = Vec::new();
        for (sign, key, value) in [(Sign::Plus, "plus", &inner.plus), (Sign::Minus, "minus", &inner.minus)] {
            if let Some(value) = value {
                let key = format!("{name}'s {key}");
                shifts.push((sign, durations_of(&key, &FieldSpec::read(&key, value)?, columns)?));
            }
        }
        Ok(MomentWay { style: Style { patterns, unit }, zone: inner.zone.clone(), shifts })
    })
}

/// The text of a field.
fn extract(name: &str, spec: &FieldSpec, columns: &mut Columns) -> Result<Extract, Wrong> {
    let source = match (&spec.column, &spec.value) {
        (Some(_), Some(_)) => return Err(wrong(name, "has both column and value")),
        (Some(column), None) => {
            let places: Vec<usize> = column.list().into_iter().map(|name| columns.place(name)).collect();
            if places.is_empty() {
                return Err(wrong(name, "names no column"));
            }
            Source::Columns(places)
        }
        (None, Some(value)) => Source::Template(
            Template::parse(value, columns).map_err(|error| wrong(name, &format!("is wrong: {error}")))?,
        ),
        (None, None) => return Err(wrong(name, "has neither column nor value")),
    };
    let pattern = match (&spec.pattern_of_text, &spec.replace) {
        (None, Some(_)) => return Err(wrong(name, "has replace, but no match")),
        (None, None) => None,
        (Some(regex), replacement) => {
            let regex = Regex::new(regex)
                .map_err(|error| wrong(name, &format!("has a match that is no regular expression: {error}")))?;
            Some((regex, replacement.clone()))
        }
    };
    Ok(Extract {
        pattern,
        translations: spec.map.clone(),
        trim: spec.trim,
        conditions: conditions(name, &spec.conditions, columns)?,
        source,
    })
}

fn conditions(name: &str, texts: &[String], columns: &mut Columns) -> Result<Vec<Condition>, Wrong> {
    let parse =
        |text: &String| Condition::parse(text, columns).map_err(|error| wrong(name, &format!("is wrong: {error}")));
    texts.iter().map(parse).collect()
}

fn no_unit(name: &str, unit: &str) -> Wrong {
    let known: Vec<&str> = UNITS.iter().map(|(known, _)| *known).collect();
    wrong(
        name,
        &format!("cannot have the unit {unit:?}: durations have {}, and moments s, ms, us, ns, days", known.join(", ")),
    )
}

fn take(
    name: &str,
    spec: &FieldSpec,
    default: Take,
    allowed: &[Take],
    columns: &mut Columns,
) -> Result<TakeField, Wrong> {
    let prefer = conditions(name, &spec.prefer, columns)?;
    let take = spec.take.as_deref().map_or(Ok(default), |text| take_of(name, text, allowed))?;
    if !prefer.is_empty() && matches!(take, Take::Sum | Take::Span) {
        return Err(wrong(name, "prefers records, but takes all"));
    }
    Ok(TakeField { take, prefer })
}

fn take_of(name: &str, text: &str, allowed: &[Take]) -> Result<Take, Wrong> {
    const NAMES: [(&str, Take); 7] = [
        ("first", Take::First),
        ("last", Take::Last),
        ("longest", Take::Longest),
        ("earliest", Take::Earliest),
        ("latest", Take::Latest),
        ("sum", Take::Sum),
        ("span", Take::Span),
    ];
    NAMES.iter().find(|(known, take)| *known == text && allowed.contains(take)).map(|(_, take)| *take).ok_or_else(
        || {
            let names: Vec<&str> =
                NAMES.iter().filter(|(_, take)| allowed.contains(take)).map(|(known, _)| *known).collect();
            wrong(name, &format!("cannot take {text:?}, but {}", names.join(", ")))
        },
    )
}

fn file(spec: &Spec) -> Result<FileShape, Wrong> {
    let format = match spec.format.as_deref() {
        None => None,
        Some("csv") => Some(Format::Csv),
        Some("json" | "jsonl") => Some(Format::Json),
        Some("xml") => Some(Format::Xml),
        Some(other) => return Err(wrong("format", &format!("cannot be {other:?}: use csv, json or xml"))),
    };
    let encoding = match spec.encoding.as_deref() {
        None => None,
        Some(label) => {
            let found = Encoding::for_label_no_replacement(label.as_bytes());
            Some(found.ok_or_else(|| {
                wrong("encoding", &format!("{label:?} is not known: such as utf-8, utf-16le, windows-1252, shift_jis"))
            })?)
        }
    };
    Ok(FileShape {
        format,
        encoding,
        delimiter: byte("delimiter", spec.delimiter.as_deref())?,
        quote: match spec.quote.as_deref() {
            Some("") => None,
            other => Some(byte("quote", other)?.unwrap_or(b'"')),
        },
        escape: byte("escape", spec.escape.as_deref())?,
        comment: byte("comment", spec.comment.as_deref())?,
        has_header: spec.header.unwrap_or(spec.columns.is_empty()),
        columns: spec.columns.clone(),
        is_uneven: spec.uneven,
        skip_lines: spec.skip_lines,
        records: spec.records.clone().unwrap_or_default(),
    })
}

fn byte(name: &str, text: Option<&str>) -> Result<Option<u8>, Wrong> {
    match text {
        None => Ok(None),
        Some("\\t" | "tab") => Ok(Some(b'\t')),
        Some(text) => match text.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => Ok(Some(*byte)),
            _ => Err(wrong(name, "is not one ASCII character")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(text: &str) -> Result<Mapping, Error> {
        let (spec, has_call) = Spec::read(None, Some(text), &[])?;
        Mapping::new(&spec, has_call)
    }

    #[test]
    fn mistakes_are_named() {
        for (text, words) in [
            ("format = 'pdf'", "format"),
            ("encoding = 'x'", "encoding"),
            ("delimiter = ';;'", "delimiter"),
            ("decimal = ';'", "decimal"),
            ("filter = ['x']", "condition"),
            ("start = { column = 'a', pattern = 'HH24' }", "no day"),
            ("folder = { first = [{ column = 'a', take = 'last' }] }", "inside of first"),
            ("duration = { column = 'a', take = 'sum', prefer = ['a=b'] }", "takes all"),
            ("start = { column = 'a', unit = 'hms' }", "unit"),
            ("duration = { column = 'a', unit = 'x' }", "unit"),
            ("folder = { column = 'a', value = 'b' }", "both column and value"),
            ("folder = { trim = true }", "neither column nor value"),
            ("folder = { column = 'a', match = '(' }", "regular expression"),
            ("folder = { column = 'a', replace = 'x' }", "no match"),
            ("folder = { column = 'a', take = 'sum' }", "cannot take \"sum\", but first, last, longest"),
            ("company = { column = 'a', take = 'first' }", "for folder, agent, start and duration"),
            ("company = { column = 'a', unit = 's' }", "for times"),
            ("folder = { value = '{a' }", "brace"),
        ] {
            let error = mapping(text).map(|_| ()).unwrap_err();
            assert!(error.message.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn calls_fold_if_the_mapping_names_them() {
        assert!(mapping("call = 'id'").unwrap().folds && !mapping("call = 'id'\nfold = false").unwrap().folds);
        assert!(!mapping("").unwrap().folds);
    }

    #[test]
    fn mistakes_are_named_with_their_line_in_the_words_of_toml() {
        for (text, expected) in [
            (
                "\nstart = { column = 's', pattern = 5 }",
                "line 2: the mapping's start is wrong: expected a text, or a list of texts",
            ),
            ("\n\n[duration]\nunit = 'x'\ncolumn = 'd'", "line 3: the mapping's duration cannot have the unit \"x\""),
            ("[define.x]\ncolumn = 'a'\n[define.y]\nfirst = []", "line 3: the mapping's definition of y is not either"),
            ("\nend = 1", "line 2: the mapping is wrong: unknown key `end`"),
            ("folder = 5", "line 1: the mapping's folder is not the name of a column"),
            ("folder = { column = 'a', map = 5 }", "is wrong: invalid type: integer `5`, expected a table"),
            ("\nencoding = 'x'", "line 2: the mapping's encoding"),
        ] {
            let error = mapping(text).map(|_| ()).unwrap_err();
            assert!(error.message.starts_with(expected) || error.message.ends_with(expected), "{text}: {error}");
        }
    }
}
