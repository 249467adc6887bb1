//! A mapping that is complete: how a file is read, and how its records become calls. Pure.

mod build;

use crate::admin::error::Error;
use crate::admin::load::condition::Condition;
use crate::admin::load::duration::{Point, Unit};
use crate::admin::load::field::Alternatives;
use crate::admin::load::problem::Problem;
use crate::admin::load::time::Style;
use crate::admin::load::value::{Columns, Values};
use crate::admin::name;
use encoding_rs::Encoding;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Csv,
    Json,
    Xml,
}

/// How a file is read.
#[derive(Debug, Clone)]
pub struct FileShape {
    /// None: by its first characters.
    pub format: Option<Format>,
    /// None: UTF-8, or UTF-16 if it looks like that.
    pub encoding: Option<&'static Encoding>,
    /// None: by the header.
    pub delimiter: Option<u8>,
    pub quote: Option<u8>,
    pub escape: Option<u8>,
    pub comment: Option<u8>,
    pub has_header: bool,
    /// Names in the order of the file; empty: those of the header, or numbers.
    pub columns: Vec<String>,
    /// Records may have less or more columns than the header.
    pub is_uneven: bool,
    pub skip_lines: u64,
    /// The path to the records, in JSON and XML; empty: they are at the top.
    pub records: String,
}

/// Which record of a call gives a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    First,
    Last,
    Longest,
    Earliest,
    Latest,
    Sum,
    Span,
}

/// How the moment in a text is read.
#[derive(Debug, Clone, Default)]
pub struct MomentWay {
    pub style: Style,
    /// Of moments without an offset; none: the organization's.
    pub zone: Option<String>,
    /// Durations that are added or subtracted.
    pub shifts: Vec<(Sign, Alternatives<Unit>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    Plus,
    Minus,
}

/// Where the duration comes from.
#[derive(Debug, Clone)]
pub enum DurationField {
    Number(Alternatives<Unit>),
    /// The moment at which the call ended.
    End(Alternatives<MomentWay>),
}

/// Which record of a call gives each field.
#[derive(Debug, Clone)]
pub struct Takes {
    pub folder: TakeField,
    pub agent: TakeField,
    pub start: TakeField,
    pub duration: TakeField,
}

/// Among the records of a call, those where the first condition holds come before the others, then those where the
/// second does, and so on; among these, `take` decides.
#[derive(Debug, Clone)]
pub struct TakeField {
    pub take: Take,
    pub prefer: Vec<Condition>,
}

impl TakeField {
    /// How far behind a record stands by its conditions.
    pub fn rank(&self, values: &Values) -> i16 {
        let place = self.prefer.iter().position(|condition| condition.holds(values));
        i16::try_from(place.unwrap_or(self.prefer.len())).unwrap_or(i16::MAX)
    }
}

#[derive(Debug, Clone)]
pub struct Mapping {
    pub file: FileShape,
    pub columns: Columns,
    pub call: Option<Alternatives<()>>,
    pub company: Alternatives<()>,
    pub organization: Alternatives<()>,
    pub folder: Alternatives<()>,
    pub agent: Alternatives<()>,
    pub start: Alternatives<MomentWay>,
    pub duration: DurationField,
    /// Texts with a name of their own, which stand for columns.
    pub defined: Vec<(usize, Alternatives<()>)>,
    pub filter: Vec<Condition>,
    /// Records with the same call are one; else they must not differ.
    pub folds: bool,
    pub takes: Takes,
    /// The decimal point; none: by the delimiter.
    pub point: Option<Point>,
}

impl Mapping {
    /// The conditions that compare records: those of the filter, of fields, and of what is preferred.
    pub fn conditions(&self) -> Vec<&Condition> {
        fn of<T>(field: &Alternatives<T>) -> impl Iterator<Item = &Condition> {
            field.list.iter().flat_map(|(extract, _)| &extract.conditions)
        }
        let texts = self.call.iter().chain([&self.company, &self.organization, &self.folder, &self.agent]);
        let takes = [&self.takes.folder, &self.takes.agent, &self.takes.start, &self.takes.duration];
        let duration: Vec<&Condition> = match &self.duration {
            DurationField::Number(number) => of(number).collect(),
            DurationField::End(end) => of(end).collect(),
        };
        let defined = self.defined.iter().flat_map(|(_, text)| of(text));
        let preferred = takes.into_iter().flat_map(|take| &take.prefer);
        self.filter
            .iter()
            .chain(texts.flat_map(of))
            .chain(of(&self.start))
            .chain(duration)
            .chain(defined)
            .chain(preferred)
            .collect()
    }

    /// Sets the texts that have names of their own.
    pub fn define(&self, values: &mut Values) -> Result<(), Problem> {
        for (place, text) in &self.defined {
            let text = text.text(values, &self.columns)?.map(|(text, ())| text.into_owned()).unwrap_or_default();
            values.set(*place, text);
        }
        Ok(())
    }

    /// Adapts to the columns that a file has; an error names those that are missing.
    pub fn for_header(mut self, is_there: &[bool], header: &[String]) -> Result<Self, Error> {
        let missing = self.missing(is_there);
        if missing.optional.iter().any(|(field, _)| *field == "call") {
            self.call = None;
        }
        if missing.needed.is_empty() {
            return Ok(self);
        }
        let named: Vec<String> = header.iter().map(|name| name::shown(name)).collect();
        Err(Error::new(
            format!("there is no column {}; the columns are {}", missing.needed.join(", "), named.join(", ")),
            "name columns with --column FIELD=COLUMN, constants with --company, --organization and --folder, or give a \
             mapping (--map) or a preset (--preset)",
        ))
    }

    /// What no record of a file without a header has: an error, or a warning for each field that is optional by the
    /// mapping. The names of those that every file may lack, `agent` and `call`, need none.
    pub fn after_records(&self, is_there: &[bool]) -> Result<Vec<String>, Error> {
        let missing = self.missing(is_there);
        if !missing.needed.is_empty() {
            return Err(Error::new(
                format!("no record has {}", missing.needed.join(", ")),
                "is the name in the mapping right? With `optional = true` a field may be missing in all records, and \
                 with `uneven = true` what the filter reads",
            ));
        }
        let optional = missing.optional.iter().filter(|(field, names)| *names != name::shown(field));
        Ok(optional.map(|(field, names)| format!("no record has {names}, from which {field} is read")).collect())
    }

    /// The columns that are not there. A field needs one of its columns, and a filter all.
    fn missing(&self, is_there: &[bool]) -> Missing {
        let defined: Vec<usize> = self.defined.iter().map(|(place, _)| *place).collect();
        let is_missing = |place: &usize| !is_there.get(*place).copied().unwrap_or(false) && !defined.contains(place);
        let mut fields: Vec<(&'static str, Vec<usize>, bool, bool)> = Vec::new();
        let texts = [
            ("call", self.call.as_ref()),
            ("company", Some(&self.company)),
            ("organization", Some(&self.organization)),
            ("folder", Some(&self.folder)),
            ("agent", Some(&self.agent)),
        ];
        for (name, field) in texts {
            if let Some(field) = field {
                fields.push((name, field.columns(), field.has_constant(), field.is_optional));
            }
        }
        fields.push(("start", self.start.columns(), self.start.has_constant(), false));
        let (columns, has_constant) = match &self.duration {
            DurationField::Number(number) => (number.columns(), number.has_constant()),
            DurationField::End(end) => (end.columns(), end.has_constant()),
        };
        fields.push(("duration", columns, has_constant, false));
        let mut missing = Missing::default();
        for (name, mut places, has_constant, is_optional) in fields {
            if has_constant || places.is_empty() || !places.iter().all(is_missing) {
                continue;
            }
            let mut known = Vec::new();
            places.retain(|place| {
                !known.contains(place) && {
                    known.push(*place);
                    true
                }
            });
            let names: Vec<String> = places.iter().map(|&place| name::shown(self.columns.name(place))).collect();
            if is_optional {
                missing.optional.push((name, names.join(" or ")));
            } else {
                missing.add(names.join(" or "));
            }
        }
        if !self.file.is_uneven {
            let columns = self.filter.iter().flat_map(Condition::columns);
            columns.filter(is_missing).for_each(|place| missing.add(name::shown(self.columns.name(place))));
        }
        missing
    }
}

/// Columns that a file does not have.
#[derive(Debug, Default)]
struct Missing {
    needed: Vec<String>,
    /// Those of fields that may be missing.
    optional: Vec<(&'static str, String)>,
}

impl Missing {
    fn add(&mut self, names: String) {
        if !self.needed.contains(&names) {
            self.needed.push(names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::load::spec::Spec;

    #[test]
    fn the_plain_mapping_takes_a_file_without_agent_and_call() {
        let (spec, has_call) = Spec::read(None, Some(""), &[]).unwrap();
        let plain = Mapping::new(&spec, has_call).unwrap();
        let names = plain.columns.names().to_vec();
        let there = |absent: &[&str]| names.iter().map(|name| !absent.contains(&name.as_str())).collect::<Vec<_>>();
        let adapted = plain.clone().for_header(&there(&["agent", "call", "duration"]), &names).unwrap();
        assert!(adapted.call.is_none() && !adapted.folds);
        let error = plain.for_header(&there(&["seconds", "duration", "folder"]), &["x".into()]).unwrap_err();
        assert!(
            error.message.contains("no column \"folder\", \"seconds\" or \"duration\"; the columns are \"x\""),
            "{error}"
        );
    }

    #[test]
    fn columns_that_no_record_has_are_named_once() {
        let read = |map: &str, there: &[&str]| {
            let (spec, has_call) = Spec::read(None, Some(map), &[]).unwrap();
            let mapping = Mapping::new(&spec, has_call).unwrap();
            let is_there: Vec<bool> =
                mapping.columns.names().iter().map(|name| there.contains(&name.as_str())).collect();
            mapping.after_records(&is_there).map_err(|error| error.message)
        };
        let all = ["company", "organization", "folder", "start", "seconds"];
        assert_eq!(read("", &all), Ok(vec![]));
        assert_eq!(read("call = 'callid'", &all), Err("no record has \"callid\"".into()));
        assert_eq!(
            read("agent = { column = 'user', optional = true }", &all),
            Ok(vec!["no record has \"user\", from which agent is read".into()])
        );
        assert_eq!(
            read("agent = 'x'\nfolder = 'x'\nfilter = ['x=1', 'y=1', 'y=2']", &all),
            Err("no record has \"x\", \"y\"".into())
        );
        assert_eq!(read("filter = ['y=1']\nuneven = true", &all), Ok(vec![]));
        let map = "[duration]\nfirst = [{ column = ['a', 'b'], unit = 'hms' }, { column = ['a', 'b'] }]";
        assert_eq!(read(map, &all), Err("no record has \"a\" or \"b\"".into()));
    }
}
