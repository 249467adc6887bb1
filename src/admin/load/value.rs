//! The values of one record by their columns, and templates that are filled in with them. Pure.

use std::borrow::Cow;

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
    #[cfg(test)]
    pub fn of(texts: &[&str]) -> Self {
        let mut values = Self::default();
        texts.iter().for_each(|text| values.push(text.as_bytes()));
        values
    }

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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(template.render(&Values::of(&["2026", "10"])), "2026 10{x}");
        assert_eq!(Template::parse("acme", &mut columns).unwrap().render(&Values::of(&[])), "acme");
        assert_eq!(Template::parse(&Template::escape("a{b}"), &mut columns).unwrap().render(&Values::of(&[])), "a{b}");
        assert!(Template::parse("{a", &mut columns).is_err() && Template::parse("a}", &mut columns).is_err());
    }
}
