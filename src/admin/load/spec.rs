//! Mappings as people write them: presets, TOML files and options, merged key by key. Pure.

use crate::admin::error::Error;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// The defaults of every mapping.
const PLAIN: &str = include_str!("presets/plain.toml");

const PRESETS: [(&str, &str); 10] = [
    ("3cx", include_str!("presets/3cx.toml")),
    ("asterisk", include_str!("presets/asterisk.toml")),
    ("asterisk-custom", include_str!("presets/asterisk-custom.toml")),
    ("asterisk-export", include_str!("presets/asterisk-export.toml")),
    ("avaya-ipo", include_str!("presets/avaya-ipo.toml")),
    ("excel", include_str!("presets/excel.toml")),
    ("freeswitch", include_str!("presets/freeswitch.toml")),
    ("vspark-metadata", include_str!("presets/vspark-metadata.toml")),
    ("vspark-metadata-utc", include_str!("presets/vspark-metadata-utc.toml")),
    ("vspark-transcript", include_str!("presets/vspark-transcript.toml")),
];

/// All keys of a mapping, as they are written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// Where the keys of the mapping's file are in it.
    #[serde(skip)]
    lines: BTreeMap<String, usize>,
    /// Merged before.
    preset: Option<String>,
    pub about: Option<String>,
    pub format: Option<String>,
    pub encoding: Option<String>,
    pub delimiter: Option<String>,
    pub quote: Option<String>,
    pub escape: Option<String>,
    pub comment: Option<String>,
    pub header: Option<bool>,
    pub columns: Vec<String>,
    pub uneven: bool,
    pub skip_lines: u64,
    pub records: Option<String>,
    pub decimal: Option<String>,
    pub filter: Vec<String>,
    /// In the order of the file.
    pub define: Table,
    pub fold: Option<bool>,
    pub call: Option<Value>,
    pub company: Option<Value>,
    pub organization: Option<Value>,
    pub folder: Option<Value>,
    pub agent: Option<Value>,
    pub start: Option<Value>,
    pub duration: Option<Value>,
}

/// A field of a call, as a table.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FieldSpec {
    pub column: Option<OneOrMore>,
    pub value: Option<String>,
    pub first: Option<Vec<Value>>,
    #[serde(rename = "match")]
    pub pattern_of_text: Option<String>,
    pub replace: Option<String>,
    pub map: BTreeMap<String, String>,
    pub default: Option<String>,
    pub trim: bool,
    pub optional: bool,
    #[serde(rename = "where")]
    pub conditions: Vec<String>,
    pub take: Option<String>,
    pub prefer: Vec<String>,
    pub pattern: Option<OneOrMore>,
    pub unit: Option<String>,
    pub zone: Option<String>,
    pub end: Option<Value>,
    pub plus: Option<Value>,
    pub minus: Option<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a text, or a list of texts")]
pub enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    pub fn list(&self) -> Vec<&str> {
        match self {
            Self::One(one) => vec![one],
            Self::More(more) => more.iter().map(String::as_str).collect(),
        }
    }
}

impl FieldSpec {
    /// A field is a column's name, a list of them, or a table.
    pub fn read(field: &str, value: &Value) -> Result<Self, Wrong> {
        let column = match value {
            Value::String(name) => OneOrMore::One(name.clone()),
            Value::Array(list) if list.iter().any(Value::is_table) => {
                return Ok(Self { first: Some(list.clone()), ..Self::default() });
            }
            Value::Array(_) => {
                value.clone().try_into().map_err(|_| wrong(field, "is not a list of names of columns"))?
            }
            Value::Table(_) => {
                return value.clone().try_into().map_err(|error| wrong(field, &format!("is wrong: {}", plain(&error))));
            }
            _ => return Err(wrong(field, "is not the name of a column, a list of such names, or a table")),
        };
        Ok(Self { column: Some(column), ..Self::default() })
    }

    /// The alternatives of the field, in their order. The keys of the field itself are defaults of each of them.
    pub fn alternatives(&self, field: &str) -> Result<Vec<Self>, Wrong> {
        let Some(first) = &self.first else { return Ok(vec![self.clone()]) };
        if self.column.is_some() || self.value.is_some() || first.is_empty() {
            return Err(wrong(field, "is not either a column, a value, or a list `first` of tables"));
        }
        let complete = |value: &Value| {
            let mut inner = Self::read(field, value)?;
            if inner.first.is_some() || inner.take.is_some() || !inner.prefer.is_empty() || inner.default.is_some() {
                return Err(wrong(field, "has first, take, prefer or default inside of first"));
            }
            if inner.pattern.is_none() && inner.unit.is_none() {
                inner.pattern.clone_from(&self.pattern);
                inner.unit.clone_from(&self.unit);
            }
            inner.zone = inner.zone.or_else(|| self.zone.clone());
            inner.trim |= self.trim;
            inner.conditions.extend(self.conditions.iter().cloned());
            if inner.pattern_of_text.is_none() {
                inner.pattern_of_text.clone_from(&self.pattern_of_text);
                inner.replace.clone_from(&self.replace);
            }
            if inner.map.is_empty() {
                inner.map.clone_from(&self.map);
            }
            inner.plus = inner.plus.or_else(|| self.plus.clone());
            inner.minus = inner.minus.or_else(|| self.minus.clone());
            Ok(inner)
        };
        first.iter().map(complete).collect()
    }
}

const SEE: &str = "docs/loading.md has all keys, and `callstats load --help` the options";

/// What is wrong with a key of a mapping.
#[derive(Debug)]
pub struct Wrong {
    /// The key, `definition of` a name, or a part of a key such as `start's plus`.
    field: String,
    what: String,
}

pub fn wrong(field: &str, what: &str) -> Wrong {
    Wrong { field: field.to_owned(), what: what.to_owned() }
}

/// What a mistake is in the words of TOML, not of the program.
fn plain(error: &toml::de::Error) -> String {
    const WORDS: [(&str, &str); 8] = [
        ("a string", "a text"),
        ("a sequence", "a list"),
        ("a map", "a table"),
        ("map,", "table,"),
        ("sequence,", "list,"),
        ("string ", "text "),
        ("u64", "a number that is not negative"),
        ("unknown field", "unknown key"),
    ];
    WORDS.iter().fold(error.message().replace('\n', " "), |text, (from, to)| text.replace(from, to))
}

/// An option of the command line: a key, or a key of a field such as `start.pattern`, and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    pub key: &'static str,
    pub part: Option<&'static str>,
    pub value: Value,
}

impl Spec {
    /// Merges the layers. The second value is whether a layer above the defaults has `call`.
    pub fn read(preset: Option<&str>, file: Option<&str>, settings: &[Setting]) -> Result<(Self, bool), Error> {
        let mut given = file.map(table).transpose()?.unwrap_or_default();
        if let Some(text) = file {
            // For the line of what is wrong in it.
            toml::from_str::<Self>(text).map_err(|error| in_file(text, &error, "is wrong"))?;
        }
        let named = given.remove("preset");
        let mut merged = match preset.or(named.as_ref().and_then(Value::as_str)) {
            Some(name) => table(preset_text(name)?)?,
            None => Table::new(),
        };
        for (key, value) in given {
            merged.insert(key, value);
        }
        for setting in settings {
            apply(&mut merged, setting);
        }
        let has_call = merged.contains_key("call");
        let mut layers = table(PLAIN)?;
        layers.extend(merged);
        let mut spec: Self = layers
            .try_into()
            .map_err(|error: toml::de::Error| Error::new(format!("the mapping is wrong: {}", plain(&error)), SEE))?;
        spec.lines = file.map(lines).unwrap_or_default();
        for setting in settings.iter().filter(|setting| setting.part.is_none()) {
            spec.lines.remove(setting.key);
        }
        Ok((spec, has_call))
    }

    /// What was given, with the name of a preset and not its content: a later version of that is still the same.
    pub fn given(preset: Option<&str>, file: Option<&str>, settings: &[Setting]) -> Result<Table, Error> {
        let mut given = file.map(table).transpose()?.unwrap_or_default();
        for setting in settings {
            apply(&mut given, setting);
        }
        if let Some(preset) = preset {
            given.insert("preset".into(), Value::String(preset.into()));
        }
        Ok(given)
    }

    /// The error of a key that is wrong, with its line if it comes from a file.
    pub fn error(&self, wrong: &Wrong) -> Error {
        let Wrong { field, what } = wrong;
        let key = field.strip_prefix("definition of ").unwrap_or_else(|| field.split('\'').next().unwrap_or_default());
        let line = self.lines.get(key).map(|line| format!("line {line}: ")).unwrap_or_default();
        Error::new(format!("{line}the mapping's {field} {what}"), SEE)
    }
}

pub fn preset_names() -> Vec<&'static str> {
    PRESETS.iter().map(|(name, _)| *name).collect()
}

pub fn preset_text(name: &str) -> Result<&'static str, Error> {
    PRESETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text).ok_or_else(|| {
        Error::new(format!("there is no preset {name:?}"), format!("use one of {}", preset_names().join(", ")))
    })
}

fn table(text: &str) -> Result<Table, Error> {
    text.parse().map_err(|error| in_file(text, &error, "is not TOML"))
}

fn in_file(text: &str, error: &toml::de::Error, what: &str) -> Error {
    let line = error.span().map(|span| format!("line {}: ", line_of(text, span.start))).unwrap_or_default();
    Error::new(format!("{line}the mapping {what}: {}", plain(error)), SEE)
}

fn line_of(text: &str, position: usize) -> usize {
    text.as_bytes().iter().take(position).filter(|byte| **byte == b'\n').count() + 1
}

/// The lines of the keys of a file, and of the names that it defines.
fn lines(text: &str) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    let Ok(table) = DeTable::parse(text) else { return lines };
    for (key, value) in table.get_ref() {
        lines.insert(key.get_ref().to_string(), line_of(text, key.span().start));
        if let (true, DeValue::Table(defined)) = (key.get_ref() == "define", value.get_ref()) {
            lines.extend(defined.keys().map(|name| (name.get_ref().to_string(), line_of(text, name.span().start))));
        }
    }
    lines
}

/// Sets a key, or a part of a field, which then is a table.
fn apply(table: &mut Table, setting: &Setting) {
    let Some(part) = setting.part else {
        table.insert(setting.key.into(), setting.value.clone());
        return;
    };
    let plain = || PLAIN.parse::<Table>().ok().and_then(|plain| plain.get(setting.key).cloned());
    let field = match table.remove(setting.key).or_else(plain) {
        Some(Value::Table(field)) => field,
        Some(column) => Table::from_iter([("column".to_owned(), column)]),
        None => Table::new(),
    };
    let mut field = field;
    if part == "column" {
        field.remove("value");
        field.remove("first");
    }
    // It holds for all ways to make the field.
    for inner in field.get_mut("first").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Value::Table(inner) = inner {
            inner.remove(part);
        }
    }
    field.insert(part.into(), setting.value.clone());
    table.insert(setting.key.into(), Value::Table(field));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(key: &'static str, part: Option<&'static str>, value: &str) -> Setting {
        Setting { key, part, value: Value::String(value.into()) }
    }

    #[test]
    fn options_win_over_the_file_and_the_file_over_what_is_plain() {
        let (spec, has_call) = Spec::read(
            None,
            Some("delimiter = ';'\nfolder = 'Queue'\nencoding = 'utf-8'"),
            &[setting("encoding", None, "utf-16"), setting("start", Some("pattern"), "DD.MM.YYYY")],
        )
        .unwrap();
        assert_eq!((spec.delimiter.as_deref(), spec.encoding.as_deref(), has_call), (Some(";"), Some("utf-16"), false));
        let start = FieldSpec::read("start", &spec.start.unwrap()).unwrap();
        assert_eq!(start.column, Some(OneOrMore::One("start".into())));
        assert_eq!(start.pattern, Some(OneOrMore::One("DD.MM.YYYY".into())));
        assert_eq!(spec.company, Some(Value::String("company".into())));
    }

    #[test]
    fn every_preset_is_a_mapping() {
        for name in preset_names() {
            let (spec, has_call) = Spec::read(Some(name), None, &[]).unwrap();
            let mapping = super::super::mapping::Mapping::new(&spec, has_call);
            assert!(mapping.is_ok(), "{name}: {:?}", mapping.err());
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, words) in [
            ("\ndelimeter = ';'", "line 2: the mapping is wrong: unknown key `delimeter`"),
            ("a = ", "line 1: the mapping is not TOML"),
            ("preset = 'x'", "no preset \"x\""),
            ("preset = 1", "line 1: the mapping is wrong: invalid type: integer `1`, expected a text"),
            ("\nheader = 1", "line 2: the mapping is wrong: invalid type: integer `1`, expected a boolean"),
            ("skip_lines = -1", "expected a number that is not negative"),
            ("columns = 'x'", "expected a list"),
        ] {
            let error = Spec::read(None, Some(text), &[]).map(|_| ()).unwrap_err();
            assert!(error.message.contains(words), "{text}: {error}");
        }
        let table: Table = "start = { patern = 'x' }".parse().unwrap();
        assert!(FieldSpec::read("start", &table["start"]).unwrap_err().what.contains("patern"));
        assert!(FieldSpec::read("start", &Value::Integer(1)).is_err());
    }
}
