//! JSON: one object, an array of objects, or objects one after another. Only what a mapping reads is kept.

use super::lines::{Lines, Position};
use super::{Place, Sink, Stop, cannot_read, give, skip_blank, too_long};
use crate::admin::error::Error;
use crate::admin::load::mapping::Mapping;
use crate::admin::load::problem::Problem;
use crate::admin::load::value::{Columns, Values};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::rc::Rc;

/// The paths that are wanted, as a tree.
#[derive(Debug, Default)]
struct Node {
    /// The column whose value this is.
    column: Option<usize>,
    children: Vec<(Step, Node)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// A key, compared without regard to case.
    Key(String),
    Index(usize),
    /// The last element.
    Last,
    /// The first element with this value at this path.
    Where(Vec<String>, String),
}

impl Node {
    fn of(columns: &[String]) -> Self {
        let mut root = Self::default();
        for (column, path) in columns.iter().enumerate() {
            let mut node = &mut root;
            for step in steps(path) {
                let at = node.children.iter().position(|(known, _)| *known == step).unwrap_or_else(|| {
                    node.children.push((step, Self::default()));
                    node.children.len() - 1
                });
                node = &mut node.children[at].1;
            }
            node.column = Some(column);
        }
        root
    }

    fn child(&self, key: &str) -> impl Iterator<Item = &Self> {
        let key = Columns::key(key);
        self.children.iter().filter(move |(step, _)| matches!(step, Step::Key(known) if *known == key)).map(|(_, n)| n)
    }
}

/// `a.items.0.x`, `a.items.-1.x`, `participants[purpose=agent].name`.
fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if !name.is_empty() {
            steps.push(match name.parse() {
                Ok(index) => Step::Index(index),
                Err(_) if name == "-1" => Step::Last,
                Err(_) => Step::Key(Columns::key(name)),
            });
        }
        rest = match after.strip_prefix('[') {
            Some(condition) => match condition.split_once(']') {
                Some((condition, after)) => {
                    let (path, value) = condition.split_once('=').unwrap_or((condition, ""));
                    steps.push(Step::Where(path.split('.').map(Columns::key).collect(), value.to_owned()));
                    after
                }
                None => "",
            },
            None => after.strip_prefix('.').unwrap_or_default(),
        };
    }
    steps
}

/// What was found, a value for each column.
type Found = Vec<Option<String>>;

pub fn read(
    lines: &mut Lines<'_>,
    mapping: &Mapping,
    constants: &[Option<String>],
    sink: &mut dyn Sink,
) -> Result<(), Stop> {
    let tree = Node::of(mapping.columns.names());
    let position = lines.position();
    let mut reading = Reading {
        tree: &tree,
        columns: mapping.columns.names().len(),
        position: Rc::clone(&position),
        constants,
        values: Values::default(),
        sink,
        stopped: None,
    };
    while skip_blank(lines).map_err(|error| cannot_read(&error))? {
        position.record.set(position.bytes.get());
        let line = position.lines.get() + 1;
        let mut parser = serde_json::Deserializer::from_reader(&mut *lines);
        let records: Vec<String> = mapping.file.records.iter().map(|key| Columns::key(key)).collect();
        let outcome = Level { reading: &mut reading, path: &records }.deserialize(&mut parser);
        if let Some(error) = reading.stopped.take() {
            return Err(Stop::Failed(error));
        }
        if let Err(error) = outcome {
            let line = position.lines.get().max(line - 1) + 1;
            return Err(match error.io_error_kind() {
                Some(std::io::ErrorKind::FileTooLarge) => Stop::Broken(line, too_long()),
                Some(_) => {
                    Stop::Failed(Error::new(format!("cannot read it: {error}"), "is it damaged, or was it cut?"))
                }
                None if error.is_eof() => {
                    Stop::Cut(line, Problem::of_record("the file ends inside of a record", "was it cut?"))
                }
                None => {
                    let text = error.to_string();
                    let reason = text.split(" at line ").next().unwrap_or_default();
                    Stop::Broken(
                        line,
                        Problem::of_record(format!("this is not JSON: {reason}"), "--format names another format"),
                    )
                }
            });
        }
    }
    Ok(())
}

struct Reading<'a> {
    tree: &'a Node,
    columns: usize,
    position: Rc<Position>,
    constants: &'a [Option<String>],
    values: Values,
    sink: &'a mut dyn Sink,
    /// Why the sink takes no more.
    stopped: Option<Error>,
}

impl Reading<'_> {
    fn give(&mut self, line: u64, found: &Found) -> Result<(), Error> {
        give(&mut self.values, found, self.constants);
        let place = Place { line, end: self.position.bytes.get() };
        self.position.record.set(place.end);
        self.sink.record(place, &mut self.values)
    }
}

/// Goes down to the records: through objects along the path, and through arrays.
struct Level<'r, 'a> {
    reading: &'r mut Reading<'a>,
    path: &'r [String],
}

impl<'de> DeserializeSeed<'de> for Level<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, or an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        loop {
            let level = Level { reading: &mut *self.reading, path: self.path };
            if array.next_element_seed(level)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        if let Some((wanted, path)) = self.path.split_first() {
            while let Some(key) = object.next_key::<String>()? {
                if Columns::key(&key) == *wanted {
                    object.next_value_seed(Level { reading: &mut *self.reading, path })?;
                } else {
                    object.next_value::<IgnoredAny>()?;
                }
            }
            return Ok(());
        }
        let line = self.reading.position.lines.get() + 1;
        let mut found = vec![None; self.reading.columns];
        let tree = self.reading.tree;
        visit_object(&mut object, &[tree], &mut found)?;
        let given = self.reading.give(line, &found);
        given.map_err(|error| {
            self.reading.stopped = Some(error);
            serde::de::Error::custom("stopped")
        })
    }
}

fn visit_object<'de, A: MapAccess<'de>>(object: &mut A, nodes: &[&Node], found: &mut Found) -> Result<(), A::Error> {
    while let Some(key) = object.next_key::<String>()? {
        let children: Vec<&Node> = nodes.iter().flat_map(|node| node.child(&key)).collect();
        if children.is_empty() {
            object.next_value::<IgnoredAny>()?;
        } else {
            object.next_value_seed(Branch { nodes: &children, found })?;
        }
    }
    Ok(())
}

/// Keeps what is wanted of a value.
struct Branch<'r> {
    nodes: &'r [&'r Node],
    found: &'r mut Found,
}

impl Branch<'_> {
    fn keep(self, text: &str) {
        for column in self.nodes.iter().filter_map(|node| node.column) {
            if self.found[column].is_none() {
                self.found[column] = Some(text.to_owned());
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Branch<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Branch<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.keep(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.keep(&value.to_string());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.keep(&value.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.keep(&value.to_string());
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.keep(value);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        visit_object(&mut object, self.nodes, self.found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let mut at = 0;
        loop {
            let mut nodes: Vec<&Node> = Vec::new();
            let mut apart: Vec<Apart<'_>> = Vec::new();
            for (step, node) in self.nodes.iter().flat_map(|node| &node.children) {
                match step {
                    Step::Index(index) if *index == at => nodes.push(node),
                    Step::Last => apart.push((node, None)),
                    Step::Where(path, value) => apart.push((node, Some((path, value)))),
                    Step::Index(_) | Step::Key(_) => {}
                }
            }
            let seed = Element { nodes: &nodes, apart: &apart, found: &mut *self.found };
            if array.next_element_seed(seed)?.is_none() {
                return Ok(());
            }
            at += 1;
        }
    }
}

/// What is wanted of the last element of an array, or of the first one with a value at a path.
type Apart<'r> = (&'r Node, Option<(&'r [String], &'r str)>);

/// An element of an array, which may be wanted by its index, as the last one, and for what is in it.
struct Element<'r> {
    nodes: &'r [&'r Node],
    apart: &'r [Apart<'r>],
    found: &'r mut Found,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.apart.is_empty() {
            if self.nodes.is_empty() {
                serde::Deserialize::deserialize(deserializer).map(|IgnoredAny| ())
            } else {
                Branch { nodes: self.nodes, found: self.found }.deserialize(deserializer)
            }
        } else {
            // Whether it is wanted is known only when all of it is read.
            let element: serde_json::Value = serde::Deserialize::deserialize(deserializer)?;
            for node in self.nodes {
                pick(&element, node, self.found, false);
            }
            for (node, condition) in self.apart {
                match condition {
                    None => pick(&element, node, self.found, true),
                    Some((path, value)) if is_at(&element, path, value) => pick(&element, node, self.found, false),
                    Some(_) => {}
                }
            }
            Ok(())
        }
    }
}

/// Keeps what is wanted of a value that is read already; the last one wins if it may.
fn pick(value: &serde_json::Value, node: &Node, found: &mut Found, replaces: bool) {
    use serde_json::Value::{Array, Bool, Number, Object, String as Text};
    if let Some(column) = node.column {
        let text = match value {
            Text(text) => Some(text.clone()),
            Number(number) => Some(number.to_string()),
            Bool(is) => Some(is.to_string()),
            _ => None,
        };
        if text.is_some() && (replaces || found[column].is_none()) {
            found[column] = text;
        }
    }
    for (step, child) in &node.children {
        let inner = match (step, value) {
            (Step::Key(key), Object(object)) => object.iter().find(|(k, _)| Columns::key(k) == *key).map(|(_, v)| v),
            (Step::Index(index), Array(array)) => array.get(*index),
            (Step::Last, Array(array)) => array.last(),
            (Step::Where(path, wanted), Array(array)) => array.iter().find(|element| is_at(element, path, wanted)),
            _ => None,
        };
        if let Some(inner) = inner {
            pick(inner, child, found, replaces);
        }
    }
}

/// Whether an element has this value at this path.
fn is_at(element: &serde_json::Value, path: &[String], wanted: &str) -> bool {
    let mut value = element;
    for key in path {
        let inner = value.as_object().and_then(|object| object.iter().find(|(k, _)| Columns::key(k) == *key));
        let Some((_, inner)) = inner else { return false };
        value = inner;
    }
    match value {
        serde_json::Value::String(text) => text == wanted,
        other => serde_json::to_string(other).is_ok_and(|text| text == wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read_all;

    const RECORD: &str =
        r#"{"company":"a","Organization":"b","folder":"c","start":"d","seconds":1.5,"x":{"y":[1,{}]}}"#;
    const READ: &str = "company=a organization=b folder=c start=d seconds=1.5\n";

    #[test]
    fn objects_come_alone_in_an_array_or_one_after_another() {
        for (text, lines) in [
            (RECORD.to_owned(), vec![1]),
            (format!("[\n{RECORD},\n{RECORD}\n]\n"), vec![2, 3]),
            (format!("{RECORD}\n\n{RECORD}\n"), vec![1, 3]),
            (format!("{RECORD}{RECORD}"), vec![1, 1]),
            ("[]".to_owned(), vec![]),
        ] {
            let expected: String = lines.into_iter().map(|line| format!("{line}: {READ}")).collect();
            assert_eq!(read_all("", &text), expected, "{text}");
        }
    }

    #[test]
    fn paths_go_into_objects_and_arrays() {
        let map = "records = 'data.calls'\nfolder = 'queue.Name'\nagent = 'legs.-1.agent'\ncompany = 'legs.0.agent'\n\
                   start = 'start'\norganization = 'legs[role.name=b].agent'\nduration = 'missing'\n\
                   call = { value = '' }";
        let text = r#"{"total":1,"data":{"calls":[{"queue":{"name":"Sales"},"start":1772525700123,
            "legs":[{"agent":"x","role":{"name":"a"}},{"agent":"y","role":{"name":"b"}},{"agent":true}]}]}}"#;
        assert_eq!(
            read_all(map, text),
            "1: legs.0.agent=x legs[role.name=b].agent=y queue.Name=Sales legs.-1.agent=true start=1772525700123\n"
        );
    }

    #[test]
    fn malformed_json_is_reported_with_its_line() {
        for (text, words) in [
            (format!("{RECORD}\n{{\"a\":\n"), "ends inside of a record"),
            (format!("{RECORD}\n{{\"a\" 1}}\n"), "2: this is not JSON"),
            (format!("{RECORD}\nx"), "not JSON"),
            ("[1]".into(), "not JSON"),
            ("[".repeat(100_000), "not JSON"),
        ] {
            assert!(read_all("", &text).contains(words), "{}", read_all("", &text));
        }
    }
}
