//! Fields between delimiters: CSV and its relatives (RFC 4180, and what spreadsheets and telephone systems make of it).

use super::lines::Lines;
use super::{MAX_BYTES, Place, Sink, Stop, cannot_read, too_long};
use crate::admin::error::Error;
use crate::admin::load::duration::Point;
use crate::admin::load::mapping::{FileShape, Mapping};
use crate::admin::load::problem::Problem;
use crate::admin::load::value::{Columns, Values};
use crate::admin::name::shown;
use csv::{ByteRecord, Reader, ReaderBuilder};
use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

/// Comes after the text: where it is not a record of its own, a quote was not closed.
const END: &[u8] = b"\n\0end\0\n";
/// The delimiters that a header is searched for.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
const LONGEST_HEADER: usize = 1024 * 1024;

/// Where a column of the mapping is.
enum Found {
    Field(usize),
    Constant(String),
    Nowhere,
}

pub fn read(
    lines: Lines<'_>,
    mapping: &Mapping,
    constants: &[Option<String>],
    sink: &mut dyn Sink,
) -> Result<(), Stop> {
    let shape = &mapping.file;
    let mut records = Records::open(lines, shape)?;
    let point = match mapping.point {
        // A file with semicolons has them because its commas are decimal ones.
        None if records.delimiter == b';' => Point::Either,
        None => Point::Dot,
        Some(Point::Either) if records.delimiter != b';' => Point::Unclear,
        Some(point) => point,
    };
    let mut header: Option<Vec<String>> = if shape.has_header { None } else { Some(shape.columns.clone()) };
    let mut found: Vec<Found> = Vec::new();
    if let Some(names) = header.as_ref().filter(|names| !names.is_empty()) {
        found = find(mapping, constants, names, sink, point)?;
    }
    let mut values = Values::default();
    // Of the last record in one line.
    let mut usual: Option<usize> = None;
    while let Some(place) = records.next()? {
        let record = &records.record;
        let Some(names) = &header else {
            let names = header_names(record, shape)?;
            found = find(mapping, constants, &names, sink, point)?;
            header = Some(names);
            continue;
        };
        if names.is_empty() && found.is_empty() {
            // Columns without names are numbered.
            let numbers: Vec<String> = (1..=record.len()).map(|number| number.to_string()).collect();
            found = find(mapping, constants, &numbers, sink, point)?;
            header = Some(numbers);
        }
        let names = header.as_deref().unwrap_or_default();
        let mut problem = uneven(record, names, shape);
        let is_usual = record.len() <= names.len() && usual.is_none_or(|usual| usual == record.len());
        // Where all lines have equally many columns, this cannot be unnoticed.
        if shape.is_uneven
            && records.inside > 0
            && (!is_usual || record.iter().any(|field| has_next_line(field, records.delimiter)))
        {
            problem = Some(Problem::of_record(
                "a quote goes over the end of the line, and takes a part of the next one with it",
                "was the line cut inside of the quote? Delete it, or end the quote",
            ));
        }
        if let Some(problem) = problem {
            sink.problem(place, problem)?;
            continue;
        }
        if records.inside == 0 {
            usual = Some(record.len());
        }
        values.clear();
        for found in &found {
            values.push(match found {
                Found::Field(at) => record.get(*at).unwrap_or_default(),
                Found::Constant(text) => text.as_bytes(),
                Found::Nowhere => b"",
            });
        }
        sink.record(place, &mut values)?;
    }
    if header.is_none() {
        return Err(Stop::Failed(Error::new(
            "it is empty: there is not even a header",
            "the first line has the names of the columns; without one, give --no-header",
        )));
    }
    Ok(())
}

/// The records of a text, the header among them, with their places.
struct Records<'a> {
    reader: Reader<Box<dyn Read + 'a>>,
    delimiter: u8,
    /// Where the reader began.
    base: Place,
    limit: Rc<Cell<u64>>,
    record: ByteRecord,
    /// Ends of lines within the record.
    inside: usize,
}

impl<'a> Records<'a> {
    /// Skips what stands before the header, and recognizes the delimiter.
    fn open(mut lines: Lines<'a>, shape: &FileShape) -> Result<Self, Stop> {
        for _ in 0..shape.skip_lines {
            read_line(&mut lines)?;
        }
        let mut first = read_line(&mut lines)?;
        let mut delimiter = shape.delimiter;
        if let [b's', b'e', b'p', b'=', named] | [b's', b'e', b'p', b'=', named, b'\n'] = first.as_slice() {
            delimiter = delimiter.or(Some(*named));
            first = read_line(&mut lines)?;
        }
        let delimiter = delimiter.unwrap_or_else(|| recognize(&first));
        let position = lines.position();
        let base = Place {
            line: position.lines.get() - u64::from(first.ends_with(b"\n")),
            end: position.bytes.get() - first.len() as u64,
        };
        let limit = Rc::new(Cell::new(0));
        let text = io::Cursor::new(first).chain(lines.into_rest()).chain(END);
        let rest: Box<dyn Read + 'a> = Box::new(Limited { text, read: 0, record: Rc::clone(&limit) });
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(64 * 1024)
            .delimiter(delimiter)
            .quoting(shape.quote.is_some())
            .quote(shape.quote.unwrap_or(b'"'))
            .double_quote(shape.escape.is_none())
            .escape(shape.escape)
            .comment(shape.comment)
            .from_reader(rest);
        Ok(Self { reader, delimiter, base, limit, record: ByteRecord::new(), inside: 0 })
    }

    /// Reads the next record that is not blank; none: that was the last one.
    fn next(&mut self) -> Result<Option<Place>, Stop> {
        loop {
            self.limit.set(self.reader.position().byte());
            let line_before = self.reader.position().line();
            match self.reader.read_byte_record(&mut self.record) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => return Err(failure(&error, self.base.line + line_before)),
            }
            let record = &self.record;
            // The reader does not tell which blank lines it passed over: counted from the end of the record.
            self.inside = record.iter().map(|field| field.iter().filter(|byte| **byte == b'\n').count()).sum();
            let position = self.reader.position();
            let line = self.base.line + position.line().saturating_sub(1 + self.inside as u64);
            if record.len() == 1 && record.get(0) == Some(&END[1..END.len() - 1]) {
                return Ok(None);
            }
            if record.iter().any(|field| field.ends_with(END)) {
                // The line end of the last line is inside of the quote, too.
                return Err(Stop::Cut(line + 1, Problem::of_record("a quote is not closed", QUOTE_HINT)));
            }
            if record.iter().any(|field| !field.trim_ascii().is_empty()) {
                return Ok(Some(Place { line, end: self.base.end + position.byte() }));
            }
        }
    }
}

const QUOTE_HINT: &str = "was the file cut? If quotes mean nothing in it, give --quote ''";

fn failure(error: &csv::Error, line: u64) -> Stop {
    match error.kind() {
        csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => Stop::Broken(line, too_long()),
        csv::ErrorKind::Io(error) => Stop::Failed(cannot_read(error)),
        _ => Stop::Broken(line, Problem::of_record(error.to_string(), "")),
    }
}

fn read_line(lines: &mut Lines<'_>) -> Result<Vec<u8>, Stop> {
    let mut line = Vec::new();
    let read = lines.by_ref().take(LONGEST_HEADER as u64).read_until(b'\n', &mut line);
    read.map_err(|error| Stop::Failed(cannot_read(&error)))?;
    Ok(line)
}

/// The delimiter that a line has most of; a comma, if it has none.
fn recognize(line: &[u8]) -> u8 {
    let mut best = (b',', 0);
    for delimiter in DELIMITERS {
        let mut quoted = false;
        let count = line
            .iter()
            .filter(|&&byte| {
                quoted ^= byte == b'"';
                byte == delimiter && !quoted
            })
            .count();
        if count > best.1 {
            best = (delimiter, count);
        }
    }
    best.0
}

/// The names of the header, or those that the mapping has for them.
fn header_names(record: &ByteRecord, shape: &FileShape) -> Result<Vec<String>, Error> {
    if !shape.columns.is_empty() {
        return Ok(shape.columns.clone());
    }
    let names = record.iter().map(|field| match std::str::from_utf8(field) {
        Ok(name) if !name.contains('\0') => Ok(name.trim().to_owned()),
        _ => Err(Error::new(
            format!("the header has a name that is no text: {}", shown(&String::from_utf8_lossy(field))),
            "is it a file of another format, or in another encoding (--encoding)?",
        )),
    });
    names.collect()
}

/// Where the columns of the mapping are in a header.
fn find(
    mapping: &Mapping,
    constants: &[Option<String>],
    header: &[String],
    sink: &mut dyn Sink,
    point: Point,
) -> Result<Vec<Found>, Error> {
    let keys: Vec<String> = header.iter().map(|name| Columns::key(name)).collect();
    let mut found = Vec::new();
    for (name, constant) in mapping.columns.names().iter().zip(constants) {
        let key = Columns::key(name);
        let mut places = keys.iter().enumerate().filter(|(_, known)| **known == key).map(|(at, _)| at);
        found.push(match (places.next(), constant) {
            (Some(_), _) if places.next().is_some() => {
                return Err(Error::new(
                    format!("there are two columns {}", shown(name)),
                    "name the columns in a mapping: `columns = [...]` with `header = true`",
                ));
            }
            (Some(at), _) => Found::Field(at),
            (None, Some(constant)) => Found::Constant(constant.clone()),
            (None, None) => Found::Nowhere,
        });
    }
    let is_there: Vec<bool> = found.iter().map(|found| !matches!(found, Found::Nowhere)).collect();
    sink.columns(&is_there, header, point)?;
    Ok(found)
}

/// Whether a value over several lines has columns of another record in it.
fn has_next_line(field: &[u8], delimiter: u8) -> bool {
    let next = field.iter().position(|byte| *byte == b'\n').map_or(&[][..], |end| &field[end..]);
    next.contains(&delimiter) && next.contains(&b'"')
}

/// A record with other columns than the header, unless what it has more is empty.
fn uneven(record: &ByteRecord, header: &[String], shape: &FileShape) -> Option<Problem> {
    if shape.is_uneven {
        return None;
    }
    if let Some(missing) = header.get(record.len()) {
        return Some(Problem::of_record(
            format!("it ends before the column {}", shown(missing)),
            "was the line cut? If lines may end early, write `uneven = true` in the mapping",
        ));
    }
    if record.iter().skip(header.len()).all(<[u8]>::is_empty) {
        return None;
    }
    Some(Problem::of_record(
        format!("it has {} columns, and the header {}", record.len(), header.len()),
        "a value with the delimiter in it must be in quotes",
    ))
}

/// Refuses records that have no end.
struct Limited<R> {
    text: R,
    read: u64,
    /// Where the record that is being read began.
    record: Rc<Cell<u64>>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read.saturating_sub(self.record.get()) > MAX_BYTES {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let read = self.text.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read_all, read_all_of};

    const HEADER: &str = "company,organization,folder,agent,start,seconds\n";

    #[test]
    fn columns_are_found_by_name_in_any_order_and_case() {
        let text = "Start, SECONDS ,extra,Folder,organization,COMPANY\n1,2,3,4,5,6\n";
        assert_eq!(read_all("", text), "2: company=6 organization=5 folder=4 start=1 seconds=2\n");
    }

    #[test]
    fn the_delimiter_is_recognized() {
        for delimiter in [";", "\t", "|"] {
            let text = HEADER.replace(',', delimiter) + &"a,b,\"c;d\",,e,1\n".replace(',', delimiter);
            assert!(read_all("", &text).contains("folder=c;d"), "{delimiter}");
        }
        let text = "sep=;\r\n".to_owned() + &HEADER.replace(',', ";") + "a;b;c;;e;1\n";
        assert!(read_all("", &text.replace("\r\n", "\n")).starts_with("3: "));
    }

    #[test]
    fn lines_are_counted_over_blank_ones_and_quoted_ends() {
        let text = HEADER.to_owned() + "\n\na,b,\"c\nd\",,e,1\n  \n,,,,,\na,b,f,,e,2\n";
        assert_eq!(
            read_all("", &text),
            "4: company=a organization=b folder=c\nd start=e seconds=1\n\
             8: company=a organization=b folder=f start=e seconds=2\n"
        );
    }

    #[test]
    fn a_header_may_be_missing_or_replaced() {
        let map = "header = false\nfolder = '3'\ncompany = '1'\norganization = '2'\nstart = '4'\nduration = '5'\n\
                   agent = {value = ''}\ncall = {value = ''}";
        assert_eq!(read_all(map, "a,b,c,d,e\n"), "1: 1=a 2=b 3=c 4=d 5=e\n");
        let map = "columns = ['company', 'organization', 'folder', 'start', 'seconds']\nuneven = true";
        assert_eq!(read_all(map, "a,b\n"), "1: company=a organization=b\n");
        let map = "columns = ['company', 'organization', 'folder', 'start', 'seconds']\nheader = true\nskip_lines = 2";
        assert_eq!(
            read_all(map, "x\ny\n1,2,3,4,5\na,b,c,d,e\n"),
            "4: company=a organization=b folder=c start=d seconds=e\n"
        );
    }

    #[test]
    fn malformed_records_are_reported_with_their_line() {
        for (row, words) in [
            ("a,b,c,,e", "2: it ends before the column \"seconds\""),
            ("a,b,c,d,,e,1", "2: it has 7 columns, and the header 6"),
            ("\\.", "2: it ends before the column \"organization\""),
            ("a,b,\"c,,e,1", "2: a quote is not closed"),
        ] {
            let text = format!("{HEADER}{row}\n");
            assert!(read_all("", &text).contains(words), "{row}: {}", read_all("", &text));
        }
        assert!(read_all("", &format!("{HEADER}a,b,c,,e,1,,\n")).contains("folder=c"));
        assert!(read_all("", "").contains("it is empty"));
        assert!(read_all("", "folder,folder,company,organization,start,seconds\n").contains("two columns \"folder\""));
        assert!(read_all("", "company\n").contains("no column \"organization\""));
    }

    #[test]
    fn a_line_that_is_cut_inside_of_a_quote_takes_no_other_with_it() {
        let map = "columns = ['company', 'organization', 'folder', 'start', 'seconds', 'x']\nuneven = true";
        for (text, line) in [
            ("a,b,\"c\",d,\"e\"\na,b,\"c\na,b,\"f\",d,\"e\"\n", 2),
            ("a,b,\"c\na,b,\"f\",d,\"e\"\n", 1),
            ("a,b,\"c\",d,e\na,b,\"c\n\"\",b,\"f\",d,e\n", 2),
        ] {
            let read = read_all(map, text);
            assert!(read.contains(&format!("{line}: a quote goes over the end of the line")), "{text} {read}");
        }
        assert!(read_all(map, "a,b,c,d,e\na,b,\"c\nd\",d,e\n").contains("folder=c\nd"));
    }

    #[test]
    fn a_record_without_end_is_refused_in_time() {
        let long = format!("{HEADER}a,b,\"{}", "x\n".repeat(6 * 1024 * 1024));
        assert!(read_all("", &long).contains("more than 8 MB"));
    }

    #[test]
    fn quotes_may_mean_nothing_or_be_escaped() {
        let row = |field: &str| format!("{HEADER}a,b,{field},,e,1\n");
        assert!(read_all("quote = ''", &row("\"c")).contains("folder=\"c"));
        assert!(read_all("escape = '\\'", &row("\"c\\\"d\"")).contains("folder=c\"d"));
        assert!(read_all("", &row("\"c\"\"d\"")).contains("folder=c\"d"));
        assert!(read_all("comment = '#'", &format!("{HEADER}# x\na,b,c,,e,1\n")).starts_with("3: "));
    }

    #[test]
    fn bytes_are_passed_as_they_are() {
        let text = [HEADER.as_bytes(), b"a,b,c\xa5,,e,1\n"].concat();
        assert!(read_all_of("", &text).contains("folder=c\u{fffd}"));
    }
}
