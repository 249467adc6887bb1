//! The records of a text, whatever its format: finds the values that a mapping reads. Pure but for the text.

mod csv;
mod json;
mod json_path;
mod lines;
mod xml;

use crate::admin::error::Error;
use crate::admin::load::duration::Point;
use crate::admin::load::mapping::{Format, Mapping};
use crate::admin::load::problem::Problem;
use crate::admin::load::value::Values;
use lines::Lines;
use std::io::{BufRead, Read};

/// A record may have so many bytes: what is longer is a quote that is not closed, or another format.
pub const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Where a record is in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub line: u64,
    /// How many bytes of the text there are up to its end.
    pub end: u64,
}

/// Why the reading of a text ends early.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// The text cannot be read, or not by this mapping.
    Failed(Error),
    /// What comes from this line on is not of the format.
    Broken(u64, Problem),
    /// The text ends inside of the record that begins at this line.
    Cut(u64, Problem),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Takes the records.
pub trait Sink {
    /// Told before the first record: which columns of the mapping there are, how all are called, and how numbers in
    /// this file may be written.
    fn columns(&mut self, is_there: &[bool], header: &[String], point: Point) -> Result<(), Error>;
    fn record(&mut self, place: Place, values: &mut Values) -> Result<(), Error>;
    fn problem(&mut self, place: Place, problem: Problem) -> Result<(), Error>;
    /// Told after the last record of a format without a header: which columns of the mapping occurred.
    fn end(&mut self, is_there: &[bool]) -> Result<(), Error>;
}

/// Reads all records. `constants` has the values of columns that stand for the whole file.
pub fn read(
    text: &mut dyn Read,
    mapping: &Mapping,
    constants: &[Option<String>],
    sink: &mut dyn Sink,
) -> Result<(), Stop> {
    let mut lines = Lines::new(text);
    let first = lines.first().map_err(|error| cannot_read(&error))?;
    let format = mapping.file.format.unwrap_or(match first {
        Some(b'{' | b'[') => Format::Json,
        Some(b'<') => Format::Xml,
        _ => Format::Csv,
    });
    match format {
        Format::Csv => csv::read(lines, mapping, constants, sink),
        Format::Json | Format::Xml => {
            let is_there = vec![true; mapping.columns.names().len()];
            sink.columns(&is_there, &[], mapping.point.unwrap_or(Point::Dot))?;
            let seen = if format == Format::Json {
                json::read(&mut lines, mapping, constants, sink)?
            } else {
                xml::read(lines, mapping, constants, sink)?
            };
            let is_there: Vec<bool> =
                seen.iter().zip(constants).map(|(seen, constant)| *seen || constant.is_some()).collect();
            Ok(sink.end(&is_there)?)
        }
    }
}

/// A file that cannot be read to its end.
pub fn cannot_read(error: &std::io::Error) -> Error {
    Error::new(format!("cannot read it: {error}"), "is it damaged, or was it cut?")
}

const OTHER_ENCODING: &str = "is it in another encoding? Name it, such as --encoding windows-1252";

fn cut(line: u64) -> Stop {
    Stop::Cut(line, Problem::of_record("the file ends inside of a record", "was it cut?"))
}

fn too_long() -> Problem {
    Problem::of_record(
        format!("the record has more than {} MB", MAX_BYTES / 1024 / 1024),
        "is a quote not closed, or is it another format?",
    )
}

/// Gives the values in the order of the mapping: those that were found, else those of the file.
fn give(values: &mut Values, found: &[Option<String>], constants: &[Option<String>]) {
    values.clear();
    for (found, constant) in found.iter().zip(constants) {
        values.push(found.as_deref().or(constant.as_deref()).unwrap_or_default().as_bytes());
    }
}

/// Skips white space; false at the end.
fn skip_blank(lines: &mut Lines<'_>) -> std::io::Result<bool> {
    loop {
        let buffer = lines.fill_buf()?;
        if buffer.is_empty() {
            return Ok(false);
        }
        let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let is_all = blank == buffer.len();
        lines.consume(blank);
        if !is_all {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::load::spec::Spec;
    use std::fmt::Write;

    /// Writes down what it is told.
    struct Log {
        mapping: Mapping,
        text: String,
    }

    impl Sink for Log {
        fn columns(&mut self, is_there: &[bool], header: &[String], _point: Point) -> Result<(), Error> {
            if !header.is_empty() {
                self.mapping = self.mapping.clone().for_header(is_there, header)?;
            }
            Ok(())
        }

        fn record(&mut self, place: Place, values: &mut Values) -> Result<(), Error> {
            let _ = write!(self.text, "{}:", place.line);
            for (at, name) in self.mapping.columns.names().iter().enumerate() {
                if !values.get(at).is_empty() {
                    let _ = write!(self.text, " {name}={}", values.get(at));
                }
            }
            self.text.push('\n');
            Ok(())
        }

        fn problem(&mut self, place: Place, problem: Problem) -> Result<(), Error> {
            let _ = writeln!(self.text, "{}: {}", place.line, problem.reason);
            Ok(())
        }

        fn end(&mut self, _is_there: &[bool]) -> Result<(), Error> {
            Ok(())
        }
    }

    pub fn read_all(map: &str, text: &str) -> String {
        read_all_of(map, text.as_bytes())
    }

    pub fn read_all_of(map: &str, mut text: &[u8]) -> String {
        let (spec, has_call) = Spec::read(None, Some(map), &[]).unwrap();
        let mapping = Mapping::new(&spec, has_call).unwrap();
        let constants = vec![None; mapping.columns.names().len()];
        let mut log = Log { mapping: mapping.clone(), text: String::new() };
        match read(&mut text, &mapping, &constants, &mut log) {
            Ok(()) => {}
            Err(Stop::Failed(error)) => log.text.push_str(&error.to_string()),
            Err(Stop::Broken(line, problem) | Stop::Cut(line, problem)) => {
                let _ = writeln!(log.text, "{line}: {}", problem.reason);
            }
        }
        log.text
    }
}
