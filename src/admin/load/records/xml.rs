//! XML: elements that are records, with their values in attributes and in elements below. No entity but the five that
//! XML has is resolved, and nothing that a document refers to is read.

use super::lines::{Lines, Position};
use super::{MAX_BYTES, OTHER_ENCODING, Place, Sink, Stop, cannot_read, cut, give, too_long};
use crate::admin::error::Error;
use crate::admin::load::mapping::Mapping;
use crate::admin::load::problem::Problem;
use crate::admin::load::value::{Columns, Values};
use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

/// Reads all records. Returns which columns occur.
pub fn read(
    lines: Lines<'_>,
    mapping: &Mapping,
    constants: &[Option<String>],
    sink: &mut dyn Sink,
) -> Result<Vec<bool>, Stop> {
    let position = lines.position();
    let mut events =
        Events { reader: Reader::from_reader(lines), buffer: Vec::new(), position, ahead: VecDeque::new() };
    let columns: HashMap<String, usize> =
        mapping.columns.names().iter().enumerate().map(|(place, name)| (Columns::key(name), place)).collect();
    let seen = vec![false; constants.len()];
    let mut reading = Reading { columns, constants, values: Values::default(), seen, sink };
    let names = mapping.file.records.split(['.', '/']).filter(|name| !name.is_empty());
    let path: Vec<String> = names.map(Columns::key).collect();
    // The names of the elements that are open above a record.
    let mut above: Vec<String> = Vec::new();
    let mut depth_of_records = None;
    while let Some((line, event)) = events.next()? {
        match event {
            Event::Start(ref start) => {
                let name = name_of(start);
                above.push(name);
                let is_record = if path.is_empty() {
                    let depth = match depth_of_records {
                        Some(depth) => depth,
                        None => *depth_of_records.insert(events.depth_of_records()?),
                    };
                    above.len() == depth
                } else {
                    above.ends_with(&path)
                };
                if is_record {
                    let start = start.clone().into_owned();
                    reading.record(line, &start, &mut events)?;
                    above.pop();
                }
            }
            Event::Empty(ref start) => {
                above.push(name_of(start));
                let is_record =
                    if path.is_empty() { above.len() == depth_of_records.unwrap_or(1) } else { above.ends_with(&path) };
                if is_record {
                    let start = start.clone().into_owned();
                    let mut found = vec![None; reading.constants.len()];
                    reading.attributes("", &start, &mut found, line)?;
                    reading.give(line, &found, &events)?;
                }
                above.pop();
            }
            Event::End(_) => {
                above.pop();
            }
            _ => {}
        }
    }
    Ok(reading.seen)
}

/// A name without its prefix.
fn name_of(start: &BytesStart<'_>) -> String {
    Columns::key(&String::from_utf8_lossy(start.local_name().as_ref()))
}

struct Events<'a> {
    reader: Reader<Lines<'a>>,
    buffer: Vec<u8>,
    position: Rc<Position>,
    /// Events that were read before their turn.
    ahead: VecDeque<(u64, Event<'static>)>,
}

impl Events<'_> {
    /// The next event with its line; none: the end of the document.
    fn next(&mut self) -> Result<Option<(u64, Event<'static>)>, Stop> {
        if let Some(event) = self.ahead.pop_front() {
            return Ok(Some(event));
        }
        self.read()
    }

    fn read(&mut self) -> Result<Option<(u64, Event<'static>)>, Stop> {
        self.buffer.clear();
        let line = self.position.lines.get() + 1;
        if self.position.bytes.get() - self.position.record.get() > MAX_BYTES {
            return Err(Stop::Broken(line, too_long()));
        }
        match self.reader.read_event_into(&mut self.buffer) {
            Ok(Event::Eof) => Ok(None),
            Ok(event) => Ok(Some((line, event.into_owned()))),
            Err(quick_xml::Error::Io(error)) => Err(Stop::Failed(cannot_read(&error))),
            Err(error) => Err(broken(line, &error)),
        }
    }

    /// After the start of the root: records are the elements below it if the first of them has elements itself, else
    /// the root is the record.
    fn depth_of_records(&mut self) -> Result<usize, Stop> {
        let mut is_inside = false;
        loop {
            let Some((line, event)) = self.read()? else { return Ok(1) };
            let depth = match &event {
                Event::Start(_) | Event::Empty(_) if is_inside => Some(2),
                Event::Start(_) => {
                    is_inside = true;
                    None
                }
                Event::Empty(start) => Some(if start.attributes().next().is_some() { 2 } else { 1 }),
                Event::End(_) => Some(1),
                _ => None,
            };
            self.ahead.push_back((line, event));
            if let Some(depth) = depth {
                return Ok(depth);
            }
        }
    }
}

fn broken(line: u64, error: &dyn std::fmt::Display) -> Stop {
    let text = error.to_string();
    let hint = if text.to_lowercase().contains("utf-8") { OTHER_ENCODING } else { WAS_CUT };
    Stop::Broken(line, Problem::of_record(format!("this is not XML: {text}"), hint))
}

const WAS_CUT: &str = "was it cut? --format names another format";

struct Reading<'a> {
    columns: HashMap<String, usize>,
    constants: &'a [Option<String>],
    values: Values,
    /// Whether any record has this column, even without a value.
    seen: Vec<bool>,
    sink: &'a mut dyn Sink,
}

impl Reading<'_> {
    /// Reads a record up to its end.
    fn record(&mut self, line: u64, start: &BytesStart<'_>, events: &mut Events<'_>) -> Result<(), Stop> {
        events.position.record.set(events.position.bytes.get());
        let mut found = vec![None; self.constants.len()];
        self.attributes("", start, &mut found, line)?;
        // The paths of the elements that are open, each with the text that it has so far.
        let mut open: Vec<(String, String)> = vec![(String::new(), String::new())];
        while !open.is_empty() {
            let Some((at, event)) = events.next()? else {
                return Err(cut(line));
            };
            match event {
                Event::Start(ref start) => {
                    let path = below(&open, &name_of(start));
                    self.attributes(&path, start, &mut found, at)?;
                    open.push((path, String::new()));
                }
                Event::Empty(ref start) => {
                    let path = below(&open, &name_of(start));
                    self.attributes(&path, start, &mut found, at)?;
                    self.keep(&path, "", &mut found);
                }
                Event::Text(text) => {
                    let text = text.decode().map_err(|error| broken(at, &error))?;
                    if let Some((_, so_far)) = open.last_mut() {
                        so_far.push_str(&text);
                    }
                }
                Event::GeneralRef(reference) => {
                    let name = reference.decode().map_err(|error| broken(at, &error))?;
                    let resolved = unescape(&format!("&{name};")).map(|text| text.into_owned());
                    let resolved = resolved.map_err(|error| broken(at, &error))?;
                    if let Some((_, so_far)) = open.last_mut() {
                        so_far.push_str(&resolved);
                    }
                }
                Event::CData(text) => {
                    let text = text.decode().map_err(|error| broken(at, &error))?;
                    if let Some((_, so_far)) = open.last_mut() {
                        so_far.push_str(&text);
                    }
                }
                Event::End(_) => {
                    if let Some((path, text)) = open.pop() {
                        self.keep(&path, text.trim(), &mut found);
                    }
                }
                _ => {}
            }
        }
        self.give(line, &found, events)
    }

    fn attributes(
        &mut self,
        path: &str,
        start: &BytesStart<'_>,
        found: &mut [Option<String>],
        line: u64,
    ) -> Result<(), Stop> {
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| broken(line, &error))?;
            let name = format!("@{}", String::from_utf8_lossy(attribute.key.local_name().as_ref()));
            let name = if path.is_empty() { name } else { format!("{path}.{name}") };
            let value = attribute.unescape_value().map_err(|error| broken(line, &error))?;
            self.keep(&Columns::key(&name), &value, found);
        }
        Ok(())
    }

    fn keep(&mut self, path: &str, text: &str, found: &mut [Option<String>]) {
        let Some(&place) = self.columns.get(path) else { return };
        self.seen[place] = true;
        if found[place].is_none() && !text.is_empty() {
            found[place] = Some(text.to_owned());
        }
    }

    fn give(&mut self, line: u64, found: &[Option<String>], events: &Events<'_>) -> Result<(), Stop> {
        give(&mut self.values, found, self.constants);
        let end = events.position.bytes.get();
        events.position.record.set(end);
        self.sink.record(Place { line, end }, &mut self.values).map_err(|error: Error| Stop::Failed(error))
    }
}

fn below(open: &[(String, String)], name: &str) -> String {
    match open.last() {
        Some((path, _)) if !path.is_empty() => format!("{path}.{name}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read_all;

    const FIELDS: &str = "<Company>a</Company><organization>b</organization><folder>c &amp; d&#33;</folder>\
                          <start><![CDATA[<e>]]></start><seconds>1</seconds>";
    const READ: &str = "company=a organization=b folder=c & d! start=<e> seconds=1\n";

    #[test]
    fn records_are_the_root_or_the_elements_below_it() {
        assert_eq!(read_all("", &format!("<?xml version=\"1.0\"?>\n<call>{FIELDS}</call>")), format!("2: {READ}"));
        let text = format!("<calls>\n<call>{FIELDS}</call>\n<call>{FIELDS}</call>\n</calls>");
        assert_eq!(read_all("", &text), format!("2: {READ}3: {READ}"));
        let text = format!("<a><head><x>1</x></head><ns:list xmlns:ns='u'><ns:Call>{FIELDS}</ns:Call></ns:list></a>");
        assert_eq!(read_all("records = 'list.call'", &text), format!("1: {READ}"));
    }

    #[test]
    fn attributes_and_paths_are_values() {
        let map = "company = '@co'\norganization = 'q.@org'\nfolder = 'q.name'\nstart = '@start'\nduration = '@s'\n\
                   agent = { value = '' }\ncall = { value = '' }";
        let text =
            "<calls><call co='a' start='b' s=\"1\"><q org='&lt;o'><name>f</name></q></call><call co='x'/></calls>";
        assert_eq!(read_all(map, text), "1: @co=a q.@org=<o q.name=f @start=b @s=1\n1: @co=x\n");
    }

    #[test]
    fn malformed_xml_is_reported_with_its_line() {
        for (text, words) in [
            ("<calls>\n<call><x>1</x><start>", "ends inside of a record"),
            ("<calls>\n<call><x>1</y></call></calls>", "2: this is not XML"),
            ("<call><folder>&bomb;</folder><x/></call>", "not XML"),
        ] {
            assert!(read_all("", text).contains(words), "{text}: {}", read_all("", text));
        }
    }
}
