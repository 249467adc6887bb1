//! A file to rows without a database, for the target `records` of fuzz/. Touches the file.

use crate::admin::load::batch::Message;
use crate::admin::load::input::Input;
pub use crate::admin::load::mapping::Format;
use crate::admin::load::mapping::Mapping;
use crate::admin::load::reading;
use crate::admin::load::spec::Spec;
use encoding_rs::Encoding;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// More than a small file has.
const MESSAGES: usize = 256;

pub struct Read {
    /// Names of companies, organizations and folders.
    pub names: Vec<String>,
    /// Agents and calls.
    pub ids: Vec<String>,
    pub rows: u64,
    pub records: u64,
    pub has_problems: bool,
}

/// A mapping, which is parsed once for many files.
pub struct Reader(Mapping);

impl Reader {
    pub fn new(map: &str) -> Option<Self> {
        let (spec, has_call) = Spec::read(None, Some(map), &[]).ok()?;
        Some(Self(Mapping::new(&spec, has_call).ok()?))
    }

    /// None: the file cannot be read by this mapping.
    pub fn read(&self, path: &Path, format: Option<Format>, encoding: Option<&str>) -> Option<Read> {
        let mut mapping = self.0.clone();
        mapping.file.format = format.or(mapping.file.format);
        mapping.file.encoding =
            encoding.and_then(|name| Encoding::for_label(name.as_bytes())).or(mapping.file.encoding);
        read(mapping, path)
    }
}

fn read(mapping: Mapping, path: &Path) -> Option<Read> {
    let input = Input::open(path).ok()?;
    let (sender, messages) = sync_channel(MESSAGES);
    let before = reading::Before { complete: 0, refusal: None };
    reading::read(&input, mapping, before, Arc::default(), sender);
    let mut read = Read { names: Vec::new(), ids: Vec::new(), rows: 0, records: 0, has_problems: false };
    for message in messages {
        match message {
            Message::Opening(_) => {}
            Message::Batch(batch) => {
                read.names.extend(batch.places.into_iter().flat_map(|place| [place.company, place.organization]));
                read.names.extend(batch.folders.into_iter().map(|folder| folder.name));
                read.rows += batch.rows.len() as u64;
                read.ids
                    .extend(batch.rows.into_iter().flat_map(|row| [row.agent, row.call]).flatten().map(String::from));
            }
            Message::Ending(ending) => {
                read.records = ending.records;
                read.has_problems = !ending.problems.is_empty();
                let _ = ending.problems.message("file");
            }
            Message::Failed(_) => return None,
        }
    }
    Some(read)
}
