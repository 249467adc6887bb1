//! JSON: one object, an array of objects, or objects one after another. Only what a mapping reads is kept.

use super::json_path::{Node, Step, keys};
use super::lines::{Lines, Position};
use super::{OTHER_ENCODING, Place, Sink, Stop, cannot_read, cut, give, skip_blank, too_long};
use crate::admin::error::Error;
use crate::admin::load::mapping::Mapping;
use crate::admin::load::problem::Problem;
use crate::admin::load::value::{Columns, Values};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::rc::Rc;

/// What was found, for each column.
struct Found {
    values: Vec<Option<String>>,
    /// Whether any record has it, even without a value.
    seen: Vec<bool>,
}

/// Reads all records. Returns which columns occur.
pub fn read(
    lines: &mut Lines<'_>,
    mapping: &Mapping,
    constants: &[Option<String>],
    sink: &mut dyn Sink,
) -> Result<Vec<bool>, Stop> {
    let tree = Node::of(mapping.columns.names());
    let columns = mapping.columns.names().len();
    let path = keys(&mapping.file.records);
    let position = lines.position();
    let mut reading = Reading {
        tree: &tree,
        found: Found { values: vec![None; columns], seen: vec![false; columns] },
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
        let outcome = Level { reading: &mut reading, path: &path }.deserialize(&mut parser);
        if let Some(error) = reading.stopped.take() {
            return Err(Stop::Failed(error));
        }
        if let Err(error) = outcome {
            let line = position.lines.get().max(line - 1) + 1;
            return Err(stop(line, error));
        }
    }
    Ok(reading.found.seen)
}

fn stop(line: u64, error: serde_json::Error) -> Stop {
    match error.io_error_kind() {
        Some(std::io::ErrorKind::FileTooLarge) => return Stop::Broken(line, too_long()),
        Some(_) => return Stop::Failed(cannot_read(&error.into())),
        None if error.is_eof() => return cut(line),
        None => {}
    }
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or_default();
    Stop::Broken(
        line,
        if reason.starts_with("invalid type") {
            let hint = "`records` in the mapping, or --records, names where the objects are, such as data.calls";
            Problem::of_record(format!("this is no record: {reason}"), hint)
        } else if reason.contains("unicode code point") {
            Problem::of_record(format!("this is not JSON in UTF-8: {reason}"), OTHER_ENCODING)
        } else {
            Problem::of_record(format!("this is not JSON: {reason}"), "--format names another format")
        },
    )
}

struct Reading<'a> {
    tree: &'a Node,
    found: Found,
    position: Rc<Position>,
    constants: &'a [Option<String>],
    values: Values,
    sink: &'a mut dyn Sink,
    /// Why the sink takes no more.
    stopped: Option<Error>,
}

impl Reading<'_> {
    fn give(&mut self, line: u64) -> Result<(), Error> {
        give(&mut self.values, &self.found.values, self.constants);
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
        self.reading.found.values.fill(None);
        visit_object(&mut object, &[self.reading.tree], &mut self.reading.found)?;
        let given = self.reading.give(line);
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
            self.found.values[column].get_or_insert_with(|| text.to_owned());
        }
    }

    /// Numbers keep their own text: two that differ only beyond what a floating-point number holds are two ids.
    fn take(self, raw: &RawValue) -> Result<(), serde_json::Error> {
        for column in self.nodes.iter().filter_map(|node| node.column) {
            self.found.seen[column] = true;
        }
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'n') => {}
            Some(b'{' | b'[') => serde_json::Deserializer::from_str(text).deserialize_any(self)?,
            Some(b'"') if text.contains('\\') => self.keep(&serde_json::from_str::<String>(text)?),
            Some(b'"') => self.keep(text.get(1..text.len() - 1).unwrap_or_default()),
            _ => self.keep(text),
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Branch<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.nodes.iter().any(|node| node.column.is_some()) {
            self.take(&raw(deserializer)?).map_err(serde::de::Error::custom)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

/// The text of a value.
fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<RawValue>, D::Error> {
    serde::Deserialize::deserialize(deserializer)
}

/// What is below a node: a value that is no object or array has nothing there.
impl<'de> Visitor<'de> for Branch<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        visit_object(&mut object, self.nodes, self.found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let steps = || self.nodes.iter().flat_map(|node| &node.children);
        // What is wanted of the last element, and of the first one with a value at a path: known when it is read.
        let last: Vec<&Node> = steps().filter(|(step, _)| *step == Step::Last).map(|(_, node)| node).collect();
        let mut wanted: Vec<(&[String], &str, &Node)> = steps()
            .filter_map(|(step, node)| match step {
                Step::Where(path, value) => Some((path.as_slice(), value.as_str(), node)),
                _ => None,
            })
            .collect();
        let mut end: Option<Box<RawValue>> = None;
        for at in 0.. {
            let here: Vec<&Node> = steps().filter(|(step, _)| *step == Step::Index(at)).map(|(_, node)| node).collect();
            if last.is_empty() && wanted.is_empty() {
                let is_over = if here.is_empty() {
                    array.next_element::<IgnoredAny>()?.is_none()
                } else {
                    array.next_element_seed(Branch { nodes: &here, found: &mut *self.found })?.is_none()
                };
                if is_over {
                    break;
                }
                continue;
            }
            let Some(element) = array.next_element::<Box<RawValue>>()? else { break };
            let mut take = |nodes: &[&Node]| {
                let branch = Branch { nodes, found: &mut *self.found };
                let taken = branch.deserialize(&mut serde_json::Deserializer::from_str(element.get()));
                taken.map_err(serde::de::Error::custom)
            };
            if !here.is_empty() {
                take(&here)?;
            }
            let mut outcome = Ok(());
            wanted.retain(|(path, value, node)| {
                let is_it = is_at(&element, path, value);
                if is_it && outcome.is_ok() {
                    outcome = take(&[node]);
                }
                !is_it
            });
            outcome?;
            end = Some(element);
        }
        if let Some(element) = end.filter(|_| !last.is_empty()) {
            let branch = Branch { nodes: &last, found: self.found };
            let taken = branch.deserialize(&mut serde_json::Deserializer::from_str(element.get()));
            taken.map_err(serde::de::Error::custom)?;
        }
        Ok(())
    }
}

/// Whether an element has this value at this path.
fn is_at(element: &RawValue, path: &[String], wanted: &str) -> bool {
    let step = |node: Node, key: &String| Node { column: None, children: vec![(Step::Key(key.clone()), node)] };
    let leaf = Node { column: Some(0), children: Vec::new() };
    let node = path.iter().rev().fold(leaf, step);
    let mut found = Found { values: vec![None], seen: vec![false] };
    let branch = Branch { nodes: &[&node], found: &mut found };
    let outcome = branch.deserialize(&mut serde_json::Deserializer::from_str(element.get()));
    outcome.is_ok() && found.values.first().is_some_and(|value| value.as_deref() == Some(wanted))
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
            ("[1]".into(), "this is no record: invalid type: integer `1`, expected an object"),
            ("[\"a\"]".into(), "this is no record: invalid type: string \"a\", expected an object"),
            ("{\"folder\":\"\\ud800\"}".into(), "not JSON"),
            ("[".repeat(100_000), "not JSON"),
        ] {
            assert!(read_all("", &text).contains(words), "{}", read_all("", &text));
        }
    }

    #[test]
    fn numbers_keep_their_own_text() {
        let number = |number: &str| {
            let map = "call = 'id'\ncompany = { value = 'a' }\norganization = { value = 'b' }\nfolder = 'l.-1.n'\n\
                       agent = 'l[n=1.10].x'\nstart = 's'\nduration = 'd'";
            read_all(
                map,
                &format!(r#"{{"id":{number},"l":[{{"n":1.1,"x":"no"}},{{"n":1.10,"x":{number}}},{{"n":7.0}}]}}"#),
            )
        };
        for text in ["1772525700.10", "123456789012345678901", "1e5", "-0", "1.0"] {
            assert_eq!(number(text), format!("1: id={text} l.-1.n=7.0 l[n=1.10].x={text}\n"));
        }
    }

    #[test]
    fn keys_with_dots_are_quoted() {
        let map = "call = { value = '' }\ncompany = { value = 'a' }\norganization = { value = 'b' }\n\
                   folder = '\"queue.name\"'\nagent = '\"a.b\".\"c\"'\nstart = 's'\nduration = 'd'\n\
                   records = '\"x.y\".calls'\nfilter = ['\"queue.name\"=Q']";
        let text = r#"{"x.y":{"calls":[{"queue.name":"Q","a.b":{"c":"anna"}}]}}"#;
        assert_eq!(read_all(map, text), "1: \"queue.name\"=Q \"a.b\".\"c\"=anna\n");
    }

    #[test]
    fn the_last_element_and_the_first_with_a_value_are_those() {
        let map = "call = { value = '' }\ncompany = { value = 'a' }\norganization = { value = 'b' }\n\
                   folder = 'l.-1.x'\nagent = 'l[k=1].x'\nstart = 'l.1.y'\nduration = 'd'";
        let read = |text| read_all(map, text);
        assert_eq!(read(r#"{"l":[{"x":"a"},{"k":1,"y":2},{"k":1,"x":"c"},{}]}"#), "1: l.1.y=2\n");
        assert_eq!(read(r#"{"l":[{"k":"1","x":"a"},3]}"#), "1: l[k=1].x=a\n");
    }
}
