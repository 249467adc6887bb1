//! Totals to entries: sums of the folders, and the order of their names. Pure.
//!
//! The entries of a date are held back until it is over, because they are sent in the order of the folders' names, and
//! each starts with the sums of its agents. Names and agents are held in scratch storage; in memory are some 100 bytes
//! for each folder of the date.

use super::folders::{Folder, Folders};
use super::sum::{Sum, Total};
use crate::scratch::Scratch;
use chrono::NaiveDate;
use std::io::{self, Write};
use std::ops::Range;

/// What is copied from scratch storage at once.
const COPY_BYTES: u64 = 64 * 1024;

/// A format of entries. Each method appends to `out`.
pub trait EntryFormat {
    /// What comes before the first entry.
    fn begin(&mut self, out: &mut Vec<u8>);

    /// What is between two entries.
    fn separate(&mut self, out: &mut Vec<u8>);

    /// The start of an entry, up to its first agent.
    fn start_entry(&mut self, entry: &Entry<'_>, out: &mut Vec<u8>);

    /// An agent of an entry.
    fn agent(&mut self, agent: &Agent<'_>, out: &mut Vec<u8>);

    /// The end of an entry, after its last agent.
    fn end_entry(&mut self, entry: &Entry<'_>, out: &mut Vec<u8>);

    /// What comes after the last entry.
    fn end(&mut self, out: &mut Vec<u8>);
}

/// An entry without its agents.
pub struct Entry<'a> {
    pub date: NaiveDate,
    pub folder: &'a str,
    /// All calls.
    pub sum: Sum,
    /// Those of no agent.
    pub without_agent: Sum,
    pub has_agents: bool,
}

pub struct Agent<'a> {
    pub date: NaiveDate,
    pub folder: &'a str,
    pub agent_id: &'a str,
    pub sum: Sum,
    /// Whether it is the first of its entry.
    pub is_first: bool,
}

/// Writes the entries of totals that arrive in the order of date, folder id, agent id.
pub struct EntryWriter {
    folders: Folders,
    format: Box<dyn EntryFormat>,
    current: Option<Current>,
    /// The agents of the entries of that date, formatted.
    agents: Box<dyn Scratch>,
    held_back: Vec<HeldBack>,
    /// The text in the making; kept for its memory.
    text: Vec<u8>,
    count: u64,
}

/// The folder whose totals arrive.
struct Current {
    date: NaiveDate,
    folder_id: i32,
    /// None: not a folder of this answer.
    folder: Option<(Folder, String)>,
    with_agent: Sum,
    without_agent: Sum,
    /// Where its agents start in scratch storage.
    agents_start: u64,
}

/// An entry whose date is not over yet.
struct HeldBack {
    folder: Folder,
    sum: Sum,
    without_agent: Sum,
    agents: Range<u64>,
}

impl EntryWriter {
    /// `agents` holds the agents of a date.
    pub fn new(folders: Folders, format: Box<dyn EntryFormat>, agents: Box<dyn Scratch>) -> Self {
        Self { folders, format, current: None, agents, held_back: Vec::new(), text: Vec::new(), count: 0 }
    }

    /// How many entries were written so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Takes a total in, and writes the entries of the date before, if that one is over.
    pub fn push(&mut self, total: Total<'_>, out: &mut impl Write) -> io::Result<()> {
        let is_same_date = self.current.as_ref().is_none_or(|current| current.date == total.date);
        if !is_same_date {
            self.end_date(out)?;
        }
        if self.current.as_ref().is_none_or(|current| current.folder_id != total.folder_id) {
            self.start_folder(total.date, total.folder_id)?;
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        let Some((_, folder)) = &current.folder else { return Ok(()) };
        match total.agent_id {
            None | Some("") => current.without_agent.add(total.sum),
            Some(_) if total.sum.calls == 0 => (),
            Some(agent_id) => {
                current.with_agent.add(total.sum);
                let is_first = self.agents.len() == current.agents_start;
                let agent = Agent { date: total.date, folder, agent_id, sum: total.sum, is_first };
                self.text.clear();
                self.format.agent(&agent, &mut self.text);
                self.agents.append(&self.text)?;
            }
        }
        Ok(())
    }

    /// Writes the entries of the date whose totals arrived.
    pub fn end_date(&mut self, out: &mut impl Write) -> io::Result<()> {
        let date = self.current.as_ref().map(|current| current.date);
        self.end_folder();
        if let Some(date) = date {
            let mut held_back = std::mem::take(&mut self.held_back);
            held_back.sort_unstable_by_key(|entry| entry.folder.rank);
            for entry in held_back.drain(..) {
                self.write_entry(date, &entry, out)?;
            }
            self.held_back = held_back; // its memory serves the next date
            self.agents.clear();
        }
        Ok(())
    }

    /// Writes the rest and the end; returns the number of entries.
    pub fn finish(&mut self, out: &mut impl Write) -> io::Result<u64> {
        self.end_date(out)?;
        self.text.clear();
        if self.count == 0 {
            self.format.begin(&mut self.text);
        }
        self.format.end(&mut self.text);
        out.write_all(&self.text)?;
        Ok(self.count)
    }

    fn start_folder(&mut self, date: NaiveDate, folder_id: i32) -> io::Result<()> {
        self.end_folder();
        let folder = match self.folders.get(folder_id).cloned() {
            Some(folder) => Some((folder.clone(), self.folders.name(&folder)?)),
            None => None,
        };
        let agents_start = self.agents.len();
        let (with_agent, without_agent) = (Sum::default(), Sum::default());
        self.current = Some(Current { date, folder_id, folder, with_agent, without_agent, agents_start });
        Ok(())
    }

    fn end_folder(&mut self) {
        let Some(current) = self.current.take() else { return };
        let Some((folder, _)) = current.folder else { return };
        // What sums up to no calls does not exist, whatever its duration.
        let without_agent = if current.without_agent.calls == 0 { Sum::default() } else { current.without_agent };
        let mut sum = current.with_agent;
        sum.add(without_agent);
        if sum.calls != 0 {
            let agents = current.agents_start..self.agents.len();
            self.held_back.push(HeldBack { folder, sum, without_agent, agents });
        }
    }

    fn write_entry(&mut self, date: NaiveDate, held_back: &HeldBack, out: &mut impl Write) -> io::Result<()> {
        let HeldBack { folder, sum, without_agent, agents } = held_back;
        let folder = self.folders.name(folder)?;
        let has_agents = !agents.is_empty();
        let entry = Entry { date, folder: &folder, sum: *sum, without_agent: *without_agent, has_agents };
        self.text.clear();
        if self.count == 0 {
            self.format.begin(&mut self.text);
        } else {
            self.format.separate(&mut self.text);
        }
        self.format.start_entry(&entry, &mut self.text);
        if has_agents {
            out.write_all(&self.text)?;
            self.copy_agents(agents.clone(), out)?;
            self.text.clear();
        }
        self.format.end_entry(&entry, &mut self.text);
        self.count += 1;
        out.write_all(&self.text)
    }

    fn copy_agents(&mut self, mut range: Range<u64>, out: &mut impl Write) -> io::Result<()> {
        while !range.is_empty() {
            let length = COPY_BYTES.min(range.end - range.start);
            self.text.resize(usize::try_from(length).unwrap_or_default(), 0);
            self.agents.read_exact_at(range.start, &mut self.text)?;
            out.write_all(&self.text)?;
            range.start += length;
        }
        Ok(())
    }
}
