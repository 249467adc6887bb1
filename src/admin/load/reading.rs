//! The thread that reads a file: records become rows, and rows become batches. Touches the file.

use crate::admin::error::Error;
use crate::admin::load::batch::{Batch, Duration, Ending, Message, NewFolder, NewPlace, Opening, Row, Start};
use crate::admin::load::condition::Condition;
use crate::admin::load::duration::Point;
use crate::admin::load::input::Input;
use crate::admin::load::mapping::Mapping;
use crate::admin::load::problem::{Problem, Problems};
use crate::admin::load::records::{self, Place, Sink, Stop};
use crate::admin::load::row::{self, At, Length};
use crate::admin::load::value::{Columns, Values};
use crate::admin::name::shown;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::SyncSender;

/// Rows of a batch.
const BATCH_ROWS: usize = 16 * 1024;
/// Bytes that the names of one file may take in memory: more of them are not names.
const MAX_NAMES: usize = 24 * 1024 * 1024;
/// What a name takes beside its text, which is there four times: here, at the thread that writes, and in the summary.
const NAME_COST: usize = 800;
const NAME_COPIES: usize = 4;

/// What of a text was loaded before.
#[derive(Debug)]
pub struct Before {
    /// Bytes of it that hold whole lines.
    pub complete: u64,
    /// Why no call of these may be passed over.
    pub refusal: Option<Error>,
}

/// Reads a file to its end.
pub fn read(input: &Input, mapping: Mapping, known: Before, progress: Arc<AtomicU64>, messages: SyncSender<Message>) {
    // If the receiver has ended, nobody needs the result.
    let (Ok(last) | Err(last)) = read_all(input, mapping, known, progress, &messages).map_err(Message::Failed);
    let _ = messages.send(last);
}

fn read_all(
    input: &Input,
    mapping: Mapping,
    known: Before,
    progress: Arc<AtomicU64>,
    messages: &SyncSender<Message>,
) -> Result<Message, Error> {
    let cannot = |error: std::io::Error| records::cannot_read(&error);
    let mut text = input.text(mapping.file.encoding, progress).map_err(cannot)?;
    let constants: Vec<Option<String>> =
        mapping.columns.names().iter().map(|name| input.part_of_name(&Columns::key(name))).collect();
    let mut reading = Reading {
        mapping: mapping.clone(),
        point: Point::Dot,
        known,
        known_rows: 0,
        records: 0,
        filtered: 0,
        number_column: mapping.columns.names().iter().position(|name| Columns::key(name) == "file.record"),
        names: Names::default(),
        is_open: false,
        has_header: false,
        orders: mapping.conditions().into_iter().filter(|condition| condition.is_order()).cloned().collect(),
        no_number: None,
        no_numbers: 0,
        batch: Batch::default(),
        last_end: 0,
        absent: Vec::new(),
        problems: Problems::default(),
        last_problem: None,
        messages,
    };
    let mut outcome = records::read(&mut text, &mapping, &constants, &mut reading);
    if !reading.is_open && text.fingerprint().bytes == 0 {
        // An empty file is one without records, whether or not it should have a header.
        reading.columns(&vec![true; mapping.columns.names().len()], &[], Point::Dot)?;
        outcome = Ok(());
    }
    let is_growing = input.has_grown();
    let mut left = None;
    match outcome {
        Ok(()) => {}
        Err(Stop::Failed(error)) => return Err(error),
        Err(Stop::Cut(line, _)) if is_growing => left = Some(line),
        Err(Stop::Broken(line, problem) | Stop::Cut(line, problem)) => reading.problems.add(line, problem),
    }
    // After an error not all of it was read.
    std::io::copy(&mut text, &mut std::io::sink()).map_err(cannot)?;
    let fingerprint = text.fingerprint();
    let is_unfinished = |end: u64| !fingerprint.is_complete() && end > fingerprint.bytes;
    if let Some((place, problem)) = reading.last_problem.take() {
        if is_growing && is_unfinished(place.end) {
            left = Some(place.line);
        } else {
            reading.problems.add(place.line, problem);
        }
    } else if is_unfinished(reading.last_end) {
        if is_growing {
            left = reading.batch.rows.pop().map(|row| row.line);
        } else if let Some(row) = reading.batch.rows.last_mut() {
            row.is_unfinished = true;
        }
    }
    let batch = std::mem::take(&mut reading.batch);
    reading.send(Message::Batch(batch))?;
    Ok(Message::Ending(Ending {
        records: reading.records,
        filtered: reading.filtered,
        known: reading.known_rows,
        has_header: reading.has_header,
        no_number: reading.no_number.map(|first| (first, reading.no_numbers)),
        absent: reading.absent,
        problems: reading.problems,
        fingerprint: if left.is_some() { text.fingerprint_of_whole_lines() } else { fingerprint },
        left,
    }))
}

/// Numbers of names.
#[derive(Debug, Default)]
struct Names {
    places: HashMap<String, usize>,
    folders: HashMap<String, usize>,
    zones: Vec<String>,
    bytes: usize,
    /// What is looked up, in a buffer that stays.
    key: String,
    /// The last place, which most often is the next, too.
    last: Option<(String, String, usize)>,
}

struct Reading<'a> {
    mapping: Mapping,
    point: Point,
    known: Before,
    known_rows: u64,
    records: u64,
    filtered: u64,
    /// The column that stands for the number of the record.
    number_column: Option<usize>,
    names: Names,
    /// The columns are known.
    is_open: bool,
    /// It has a header with the columns of the mapping.
    has_header: bool,
    /// The conditions that compare numbers.
    orders: Vec<Condition>,
    /// What a condition compared that should be a number and is none: the first of them, and how many records there are.
    no_number: Option<String>,
    no_numbers: u64,
    batch: Batch,
    /// Where the last row ends.
    last_end: u64,
    /// Warnings of columns that no record has.
    absent: Vec<String>,
    problems: Problems,
    /// That of the last record, which may be one that is still being written.
    last_problem: Option<(Place, Problem)>,
    messages: &'a SyncSender<Message>,
}

impl Reading<'_> {
    fn send(&self, message: Message) -> Result<(), Error> {
        self.messages.send(message).map_err(|_| Error::new("nobody takes what was read", ""))
    }

    /// A comparison with a number never holds for what is none, and that may be a mistake.
    fn note_no_number(&mut self, place: Place, values: &Values) {
        let found = self.orders.iter().find_map(|one| Some((one.column(), one.no_number(values)?)));
        let Some((column, value)) = found else { return };
        self.no_numbers += 1;
        if self.no_number.is_none() {
            let name = self.mapping.columns.name(column);
            self.no_number = Some(format!("line {}, column {name}: {}", place.line, shown(value)));
        }
    }

    fn note_last_problem(&mut self) {
        if let Some((place, problem)) = self.last_problem.take() {
            self.problems.add(place.line, problem);
        }
    }

    /// The row of a record; none: it does not count.
    fn row(&mut self, place: Place, values: &mut Values) -> Result<Result<Option<Row>, Problem>, Error> {
        if let Some(number) = self.number_column {
            values.set(number, self.records.to_string());
        }
        if let Err(problem) = self.mapping.define(values) {
            return Ok(Err(problem));
        }
        self.note_no_number(place, values);
        let read = match row::read(&self.mapping, values, self.point) {
            Ok(Some(read)) => read,
            Ok(None) => {
                self.filtered += 1;
                return Ok(Ok(None));
            }
            Err(problem) => return Ok(Err(problem)),
        };
        if place.end <= self.known.complete && read.call.is_empty() {
            if let Some(refusal) = self.known.refusal.take() {
                return Err(refusal);
            }
            self.known_rows += 1;
            return Ok(Ok(None));
        }
        let names = &mut self.names;
        let place_number = match names.place(&read, place.line, &self.mapping, &mut self.batch.places) {
            Ok(number) => number,
            Err(problem) => return Ok(Err(problem)),
        };
        let folder = match names.folder(place_number, &read, &self.mapping, &mut self.batch.folders) {
            Ok(number) => number,
            Err(problem) => return Ok(Err(problem)),
        };
        if names.bytes > MAX_NAMES {
            return Err(Error::new(
                format!(
                    "up to line {} it has {} folders: these are no names of folders",
                    place.line,
                    names.folders.len()
                ),
                "map another column to the folder",
            ));
        }
        let some = |text: &str| (!text.is_empty()).then(|| Box::from(text));
        let zones = &mut self.batch.zones;
        let start = read.start.map(|at| names.start(at, zones));
        let duration = read.length.map(|length| match length {
            Length::Milliseconds(milliseconds) => Duration::Milliseconds(milliseconds),
            Length::Until(at) => Duration::Until(names.start(at, zones)),
        });
        Ok(Ok(Some(Row {
            line: place.line,
            place: place_number,
            folder,
            agent: some(&read.agent),
            call: some(&read.call),
            start,
            duration,
            ranks: read.ranks,
            is_unfinished: false,
        })))
    }
}

impl Names {
    fn place(
        &mut self,
        row: &row::Row<'_>,
        line: u64,
        mapping: &Mapping,
        new: &mut Vec<NewPlace>,
    ) -> Result<usize, Problem> {
        if let Some((company, organization, number)) = &self.last {
            if *company == row.company && *organization == row.organization {
                return Ok(*number);
            }
        }
        self.key.clear();
        self.key.push_str(&row.company);
        self.key.push('\0'); // in no name
        self.key.push_str(&row.organization);
        let number = match self.places.get(&self.key) {
            Some(&number) => number,
            None => {
                let labels = [
                    mapping.company.label("company", &mapping.columns),
                    mapping.organization.label("organization", &mapping.columns),
                ];
                row::check_name("company", &row.company, &labels[0])?;
                row::check_name("organization", &row.organization, &labels[1])?;
                let number = self.places.len();
                self.places.insert(self.key.clone(), number);
                self.bytes += NAME_COPIES * self.key.len() + NAME_COST;
                new.push(NewPlace {
                    line,
                    company: row.company.to_string(),
                    organization: row.organization.to_string(),
                    labels,
                });
                number
            }
        };
        self.last = Some((row.company.to_string(), row.organization.to_string(), number));
        Ok(number)
    }

    fn folder(
        &mut self,
        place: usize,
        row: &row::Row<'_>,
        mapping: &Mapping,
        new: &mut Vec<NewFolder>,
    ) -> Result<Option<usize>, Problem> {
        if row.folder.is_empty() {
            return Ok(None);
        }
        self.key.clear();
        self.key.push_str(&row.folder);
        self.key.push('\0');
        self.key.push_str(&place.to_string());
        if let Some(&number) = self.folders.get(&self.key) {
            return Ok(Some(number));
        }
        row::check_name("folder", &row.folder, &mapping.folder.label("folder", &mapping.columns))?;
        let number = self.folders.len();
        self.folders.insert(self.key.clone(), number);
        self.bytes += NAME_COPIES * self.key.len() + NAME_COST;
        new.push(NewFolder { place, name: row.folder.to_string() });
        Ok(Some(number))
    }

    fn start(&mut self, at: At<'_>, new: &mut Vec<String>) -> Start {
        let zone = at.zone.map(|zone| {
            self.zones.iter().position(|known| known == zone).unwrap_or_else(|| {
                self.zones.push(zone.to_owned());
                new.push(zone.to_owned());
                self.zones.len() - 1
            })
        });
        Start { moment: at.moment, zone, shift: at.shift }
    }
}

impl Sink for Reading<'_> {
    fn columns(&mut self, is_there: &[bool], header: &[String], point: Point) -> Result<(), Error> {
        self.point = point;
        self.is_open = true;
        self.has_header = !header.is_empty() && self.mapping.file.has_header;
        let mut ignored = Vec::new();
        if !header.is_empty() {
            let used: Vec<String> = self.mapping.columns.names().iter().map(|name| Columns::key(name)).collect();
            // Names that come from the mapping are not those of the file.
            if self.mapping.file.has_header && self.mapping.file.columns.is_empty() {
                ignored = header.iter().filter(|name| !used.contains(&Columns::key(name))).cloned().collect();
                ignored.retain(|name| !name.is_empty());
            }
            self.mapping = self.mapping.clone().for_header(is_there, header)?;
        }
        self.send(Message::Opening(Opening {
            has_call: self.mapping.call.is_some(),
            folds: self.mapping.folds,
            takes: self.mapping.takes.clone(),
            ignored,
        }))
    }

    fn record(&mut self, place: Place, values: &mut Values) -> Result<(), Error> {
        self.note_last_problem();
        self.records += 1;
        match self.row(place, values)? {
            Ok(None) => {}
            Ok(Some(row)) => {
                // The last row stays here, because it may turn out to be unfinished.
                if self.batch.rows.len() >= BATCH_ROWS {
                    let batch = std::mem::take(&mut self.batch);
                    self.send(Message::Batch(batch))?;
                }
                self.batch.rows.push(row);
                self.last_end = place.end;
            }
            Err(problem) => self.last_problem = Some((place, problem)),
        }
        Ok(())
    }

    fn problem(&mut self, place: Place, problem: Problem) -> Result<(), Error> {
        self.note_last_problem();
        self.records += 1;
        self.last_problem = Some((place, problem));
        Ok(())
    }

    fn end(&mut self, is_there: &[bool]) -> Result<(), Error> {
        // Records that are wrong are reported as such.
        if self.records > 0 && self.problems.is_empty() && self.last_problem.is_none() {
            self.absent = self.mapping.after_records(is_there)?;
        }
        Ok(())
    }
}
