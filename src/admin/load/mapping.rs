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
    /// Where the records are, in JSON and XML.
    pub records: Vec<String>,
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

    /// Adapts to the columns that a file has; an error names those that are missing. A field needs one of its columns,
    /// and a filter all.
    pub fn for_header(mut self, is_there: &[bool], header: &[String]) -> Result<Self, Error> {
        let defined: Vec<usize> = self.defined.iter().map(|(place, _)| *place).collect();
        let is_missing = |place: &usize| !is_there.get(*place).copied().unwrap_or(false) && !defined.contains(place);
        let all_missing = |places: &[usize], has_constant: bool| !has_constant && places.iter().all(is_missing);
        if self.call.as_ref().is_some_and(|call| call.is_optional && all_missing(&call.columns(), call.has_constant()))
        {
            self.call = None;
        }
        let texts =
            [self.call.as_ref(), Some(&self.company), Some(&self.organization), Some(&self.folder), Some(&self.agent)];
        let mut needed: Vec<(Vec<usize>, bool)> = texts
            .into_iter()
            .flatten()
            .map(|field| (field.columns(), field.is_optional || field.has_constant()))
            .collect();
        needed.push((self.start.columns(), self.start.has_constant()));
        needed.push(match &self.duration {
            DurationField::Number(number) => (number.columns(), number.has_constant()),
            DurationField::End(end) => (end.columns(), end.has_constant()),
        });
        let mut absent: Vec<String> = Vec::new();
        for (places, is_optional) in needed {
            if all_missing(&places, is_optional) {
                let names: Vec<String> = places.iter().map(|&place| name::shown(self.columns.name(place))).collect();
                absent.push(names.join(" or "));
            }
        }
        if !self.file.is_uneven {
            let columns: Vec<usize> = self.filter.iter().flat_map(Condition::columns).collect();
            absent.extend(columns.iter().filter(|place| is_missing(place)).map(|&p| name::shown(self.columns.name(p))));
        }
        if absent.is_empty() {
            return Ok(self);
        }
        let named: Vec<String> = header.iter().map(|name| name::shown(name)).collect();
        Err(Error::new(
            format!("there is no column {}; the columns are {}", absent.join(", "), named.join(", ")),
            "name columns with --column FIELD=COLUMN, constants with --company, --organization and --folder, or give a \
             mapping (--map) or a preset (--preset)",
        ))
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
}
