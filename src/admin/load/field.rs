//! How the text of a field is made of the values of a record: columns or a template, a match, translations, and
//! alternatives. Pure.

use crate::admin::load::condition::Condition;
use crate::admin::load::problem::Problem;
use crate::admin::load::value::{Columns, Template, Values};
use regex::Regex;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Where a text comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// The first of these columns that is not empty.
    Columns(Vec<usize>),
    Template(Template),
}

/// How the text of a field is made of the values of a record.
#[derive(Debug, Clone)]
pub struct Extract {
    pub source: Source,
    /// The expression, and what is made of a match: its first group, or this.
    pub pattern: Option<(Regex, Option<String>)>,
    pub translations: BTreeMap<String, String>,
    pub trim: bool,
    /// Where these do not hold the text is empty.
    pub conditions: Vec<Condition>,
}

impl Extract {
    #[cfg(test)]
    fn of_source(source: Source) -> Self {
        Self { source, pattern: None, translations: BTreeMap::new(), trim: false, conditions: Vec::new() }
    }

    /// The text; empty: there is none.
    pub fn text<'a>(&'a self, values: &'a Values, columns: &Columns) -> Result<Cow<'a, str>, Problem> {
        let mut text = if self.conditions.iter().all(|condition| condition.holds(values)) {
            self.source_text(values, columns)?
        } else {
            Cow::Borrowed("")
        };
        if let Some((regex, replacement)) = &self.pattern {
            text = match (regex.captures(&text), replacement) {
                (None, _) => Cow::Borrowed(""),
                (Some(found), Some(replacement)) => {
                    let mut made = String::new();
                    found.expand(replacement, &mut made);
                    Cow::Owned(made)
                }
                (Some(found), None) => {
                    Cow::Owned(found.get(1).or_else(|| found.get(0)).map_or("", |part| part.as_str()).to_owned())
                }
            };
        }
        if self.trim && text.trim().len() < text.len() {
            text = Cow::Owned(text.trim().to_owned());
        }
        if let Some(translation) = self.translations.get(&*text) {
            text = Cow::Borrowed(translation);
        }
        Ok(text)
    }

    fn source_text<'a>(&'a self, values: &'a Values, columns: &Columns) -> Result<Cow<'a, str>, Problem> {
        let readable = |place: usize| {
            if values.is_broken(place) {
                return Err(Problem::of_value(
                    columns.name(place),
                    values.get(place),
                    "this is no text in the encoding of the file",
                    "name the encoding of the file, such as --encoding windows-1252",
                ));
            }
            Ok(values.get(place))
        };
        match &self.source {
            Source::Columns(places) => {
                for &place in places {
                    let text = readable(place)?;
                    if !text.is_empty() {
                        return Ok(Cow::Borrowed(text));
                    }
                }
                Ok(Cow::Borrowed(""))
            }
            Source::Template(template) => {
                for place in template.columns() {
                    readable(place)?;
                }
                Ok(template.render(values))
            }
        }
    }

    /// The columns that it reads.
    pub fn columns(&self) -> Vec<usize> {
        match &self.source {
            Source::Columns(places) => places.clone(),
            Source::Template(template) => template.columns().collect(),
        }
    }
}

/// Ways to make a field, tried in turn until one gives a text; each with what else has to be known of it.
#[derive(Debug, Clone)]
pub struct Alternatives<T> {
    pub list: Vec<(Extract, T)>,
    /// If none gives one.
    pub default: Option<String>,
    /// The columns may be missing in the file.
    pub is_optional: bool,
}

impl<T> Alternatives<T> {
    /// The text, and the way it was made; none: it is empty.
    pub fn text<'a>(&'a self, values: &'a Values, columns: &Columns) -> Result<Option<(Cow<'a, str>, &'a T)>, Problem> {
        for (extract, way) in &self.list {
            let text = extract.text(values, columns)?;
            if !text.is_empty() {
                return Ok(Some((text, way)));
            }
        }
        let default = self.default.as_deref().filter(|default| !default.is_empty());
        Ok(default.zip(self.list.last()).map(|(default, (_, way))| (Cow::Borrowed(default), way)))
    }

    /// The columns that it reads.
    pub fn columns(&self) -> Vec<usize> {
        self.list.iter().flat_map(|(extract, _)| extract.columns()).collect()
    }

    /// Whether no column is needed, because one of the ways is a constant.
    pub fn has_constant(&self) -> bool {
        self.default.is_some() || self.list.iter().any(|(extract, _)| extract.columns().is_empty())
    }

    /// What it is called in messages.
    pub fn label(&self, field: &str, columns: &Columns) -> String {
        match self.columns().first() {
            None => field.to_owned(),
            Some(&place) => columns.name(place).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_matched_translated_and_replaced() {
        let columns = Columns::default();
        let mut extract = Extract::of_source(Source::Columns(vec![0, 1]));
        assert_eq!(extract.text(&Values::of(&["", "b"]), &columns).unwrap(), "b");
        extract.pattern = Some((Regex::new("^[^/]+/(.+)-[0-9a-f]+$").unwrap(), None));
        assert_eq!(extract.text(&Values::of(&["SIP/301-0000001a"]), &columns).unwrap(), "301");
        assert_eq!(extract.text(&Values::of(&["Local"]), &columns).unwrap(), "");
        extract.translations.insert("301".into(), "anna".into());
        assert_eq!(extract.text(&Values::of(&["SIP/301-0000001a"]), &columns).unwrap(), "anna");
        extract.pattern = Some((Regex::new("(..)(..)").unwrap(), Some("$2-${1}x".into())));
        assert_eq!(extract.text(&Values::of(&["abcd"]), &columns).unwrap(), "cd-abx");
    }

    #[test]
    fn alternatives_are_tried_in_turn() {
        let columns = Columns::default();
        let of = |place| Extract::of_source(Source::Columns(vec![place]));
        let mut either = Alternatives { list: vec![(of(0), 1), (of(1), 2)], default: None, is_optional: false };
        assert_eq!(either.text(&Values::of(&["a", "b"]), &columns).unwrap(), Some(("a".into(), &1)));
        assert_eq!(either.text(&Values::of(&["", "b"]), &columns).unwrap(), Some(("b".into(), &2)));
        assert_eq!(either.text(&Values::of(&[]), &columns).unwrap(), None);
        either.default = Some("(none)".into());
        assert_eq!(either.text(&Values::of(&[]), &columns).unwrap(), Some(("(none)".into(), &2)));
    }

    #[test]
    fn bytes_that_are_no_text_matter_only_where_they_are_read() {
        let mut values = Values::default();
        values.push(b"a\xa5");
        values.push(b"b");
        let mut columns = Columns::default();
        columns.place("clid");
        columns.place("x");
        assert_eq!(Extract::of_source(Source::Columns(vec![1])).text(&values, &columns).unwrap(), "b");
        assert_eq!(Extract::of_source(Source::Columns(vec![0])).text(&values, &columns).unwrap_err().column, "clid");
    }
}
