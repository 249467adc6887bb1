//! The values of one record, and how a text is made of them: columns, templates, parts of a match. Pure.

use crate::admin::load::condition::Condition;
use crate::admin::load::problem::Problem;
use regex::Regex;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The names of the columns that a mapping reads, in the order in which [`Values`] has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns(Vec<String>);

impl Columns {
    /// The place of a column; names compare without regard to case and surrounding blanks.
    pub fn place(&mut self, name: &str) -> usize {
        let key = Self::key(name);
        self.0.iter().position(|known| Self::key(known) == key).unwrap_or_else(|| {
            self.0.push(name.trim().to_owned());
            self.0.len() - 1
        })
    }

    /// How names compare.
    pub fn key(name: &str) -> String {
        name.trim().to_lowercase()
    }

    pub fn names(&self) -> &[String] {
        &self.0
    }

    pub fn name(&self, place: usize) -> &str {
        self.0.get(place).map_or("", String::as_str)
    }
}

/// U+FFFD.
const REPLACEMENT: &[u8] = b"\xef\xbf\xbd";

/// The values of a record, one for each of [`Columns`]; what is not there is empty.
#[derive(Debug, Default)]
pub struct Values {
    text: String,
    ends: Vec<usize>,
    /// Places of values that are not text in the encoding of the file.
    broken: Vec<usize>,
    /// Values that stand before those of the record.
    set: Vec<(usize, String)>,
}

impl Values {
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.broken.clear();
        self.set.clear();
    }

    /// Sets a value that the record itself does not have.
    pub fn set(&mut self, place: usize, text: String) {
        self.set.push((place, text));
    }

    /// The next value. What is not UTF-8 is replaced, and remembered.
    pub fn push(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.text.push_str(text),
            Err(_) => {
                self.broken.push(self.ends.len());
                self.text.push_str(&String::from_utf8_lossy(bytes));
            }
        }
        // What a decoder of another encoding could not read.
        if bytes.windows(3).any(|three| three == REPLACEMENT) && self.broken.last() != Some(&self.ends.len()) {
            self.broken.push(self.ends.len());
        }
        self.ends.push(self.text.len());
    }

    pub fn get(&self, place: usize) -> &str {
        if let Some((_, text)) = self.set.iter().find(|(known, _)| *known == place) {
            return text;
        }
        let Some(&end) = self.ends.get(place) else { return "" };
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default();
        self.text.get(start..end).unwrap_or_default()
    }

    pub fn is_broken(&self, place: usize) -> bool {
        self.broken.contains(&place)
    }
}

/// A text with columns in braces.
#[derive(Debug, Clone)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Column(usize),
}

impl Template {
    /// `{{` and `}}` are braces.
    pub fn parse(text: &str, columns: &mut Columns) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            match character {
                '{' | '}' if rest.as_str().starts_with(character) => {
                    rest.next();
                    plain.push(character);
                }
                '{' => {
                    let Some((name, after)) = rest.as_str().split_once('}') else {
                        return Err(format!("{text:?} has a brace that is not closed"));
                    };
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(Part::Column(columns.place(name)));
                    rest = after.chars();
                }
                '}' => return Err(format!("{text:?} has a brace that was not opened")),
                other => plain.push(other),
            }
        }
        if !plain.is_empty() || parts.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// A text in which nothing is replaced.
    pub fn escape(text: &str) -> String {
        text.replace('{', "{{").replace('}', "}}")
    }

    pub fn render<'a>(&'a self, values: &'a Values) -> Cow<'a, str> {
        let part = |part: &'a Part| match part {
            Part::Text(text) => text.as_str(),
            Part::Column(place) => values.get(*place),
        };
        match self.0.as_slice() {
            [only] => Cow::Borrowed(part(only)),
            parts => Cow::Owned(parts.iter().map(part).collect()),
        }
    }

    pub fn columns(&self) -> impl Iterator<Item = usize> {
        self.0.iter().filter_map(|part| if let Part::Column(place) = part { Some(*place) } else { None })
    }
}

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

    fn values(texts: &[&str]) -> Values {
        let mut values = Values::default();
        texts.iter().for_each(|text| values.push(text.as_bytes()));
        values
    }

    #[test]
    fn column_names_compare_without_case_and_blanks() {
        let mut columns = Columns::default();
        assert_eq!((columns.place("Start"), columns.place(" start "), columns.place("END")), (0, 0, 1));
        assert_eq!(columns.names(), ["Start", "END"]);
    }

    #[test]
    fn templates_are_filled_in() {
        let mut columns = Columns::default();
        let template = Template::parse("{Date} {Time}{{x}}", &mut columns).unwrap();
        assert_eq!(template.render(&values(&["2026", "10"])), "2026 10{x}");
        assert_eq!(Template::parse("acme", &mut columns).unwrap().render(&values(&[])), "acme");
        assert_eq!(Template::parse(&Template::escape("a{b}"), &mut columns).unwrap().render(&values(&[])), "a{b}");
        assert!(Template::parse("{a", &mut columns).is_err() && Template::parse("a}", &mut columns).is_err());
    }

    #[test]
    fn a_text_is_matched_translated_and_replaced() {
        let columns = Columns::default();
        let mut extract = Extract::of_source(Source::Columns(vec![0, 1]));
        assert_eq!(extract.text(&values(&["", "b"]), &columns).unwrap(), "b");
        extract.pattern = Some((Regex::new("^[^/]+/(.+)-[0-9a-f]+$").unwrap(), None));
        assert_eq!(extract.text(&values(&["SIP/301-0000001a"]), &columns).unwrap(), "301");
        assert_eq!(extract.text(&values(&["Local"]), &columns).unwrap(), "");
        extract.translations.insert("301".into(), "anna".into());
        assert_eq!(extract.text(&values(&["SIP/301-0000001a"]), &columns).unwrap(), "anna");
        extract.pattern = Some((Regex::new("(..)(..)").unwrap(), Some("$2-${1}x".into())));
        assert_eq!(extract.text(&values(&["abcd"]), &columns).unwrap(), "cd-abx");
    }

    #[test]
    fn alternatives_are_tried_in_turn() {
        let columns = Columns::default();
        let of = |place| Extract::of_source(Source::Columns(vec![place]));
        let mut either = Alternatives { list: vec![(of(0), 1), (of(1), 2)], default: None, is_optional: false };
        assert_eq!(either.text(&values(&["a", "b"]), &columns).unwrap(), Some(("a".into(), &1)));
        assert_eq!(either.text(&values(&["", "b"]), &columns).unwrap(), Some(("b".into(), &2)));
        assert_eq!(either.text(&values(&[]), &columns).unwrap(), None);
        either.default = Some("(none)".into());
        assert_eq!(either.text(&values(&[]), &columns).unwrap(), Some(("(none)".into(), &2)));
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
