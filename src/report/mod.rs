//! Daily totals to the body of a response, as they arrive (docs/api.md, "Answer"). Pure.
//!
//! ```text
//! daily totals -> [intervals: sums for each week, month or range] -> entries -> [json | csv] -> bytes
//! ```
//!
//! Totals arrive in the order of date, folder id, agent id, and no stage holds more than one interval of them. Days
//! need no sums of their own, because a day's totals arrive once for each folder and agent.

mod csv;
mod entries;
mod folders;
mod intervals;
mod json;
mod seconds;
mod sum;

pub use folders::Folders;

use crate::api::format::Format;
use crate::api::interval::Interval;
use crate::scratch::ScratchSpace;
use crate::store::{DailyTotal, DateRange};
use entries::{EntryFormat, EntryWriter};
use intervals::IntervalSums;
use std::io::{self, Write};
use sum::{Sum, Total};

/// Writes the body of an answer.
pub struct Report {
    /// None: an entry for each day.
    intervals: Option<IntervalSums>,
    entries: EntryWriter,
}

impl Report {
    /// A report over these folders for these days; totals of other folders are ignored. What an interval needs besides
    /// its sums lies in areas of `scratch`.
    pub fn new(
        folders: Folders,
        days: DateRange,
        interval: Interval,
        format: Format,
        scratch: &dyn ScratchSpace,
    ) -> Self {
        let intervals = match interval {
            Interval::Day => None,
            Interval::Week | Interval::Month | Interval::Total => {
                Some(IntervalSums::new(interval, days.first, scratch.create()))
            }
        };
        Self { intervals, entries: EntryWriter::new(folders, entry_format(format), scratch.create()) }
    }

    /// How many entries were written so far.
    pub fn entries(&self) -> u64 {
        self.entries.count()
    }

    /// Takes a total in, and writes the entries that it completes.
    pub fn push(&mut self, total: DailyTotal<'_>, out: &mut impl Write) -> io::Result<()> {
        match &mut self.intervals {
            None => self.entries.push(total.into(), out),
            Some(intervals) => {
                if intervals.is_over(total.date) {
                    write_interval(intervals, &mut self.entries, out)?;
                    // The client gets each interval when it is over, however few entries that are.
                    out.flush()?;
                }
                intervals.add(total)
            }
        }
    }

    /// Writes the rest; returns the number of entries.
    pub fn finish(&mut self, out: &mut impl Write) -> io::Result<u64> {
        if let Some(intervals) = &mut self.intervals {
            write_interval(intervals, &mut self.entries, out)?;
        }
        self.entries.finish(out)
    }
}

fn write_interval(intervals: &mut IntervalSums, entries: &mut EntryWriter, out: &mut impl Write) -> io::Result<()> {
    intervals.drain(|total| entries.push(total, out))?;
    entries.end_date(out)
}

/// Writes the body of an answer without entries.
pub fn write_empty(format: Format, out: &mut impl Write) -> io::Result<()> {
    let (mut body, mut format) = (Vec::new(), entry_format(format));
    format.begin(&mut body);
    format.end(&mut body);
    out.write_all(&body)
}

fn entry_format(format: Format) -> Box<dyn EntryFormat> {
    match format {
        Format::Json => Box::new(json::Json),
        Format::Csv => Box::new(csv::Csv),
    }
}

impl<'a> From<DailyTotal<'a>> for Total<'a> {
    fn from(total: DailyTotal<'a>) -> Self {
        let sum = Sum { calls: total.calls.into(), duration_ms: total.duration_ms.into() };
        Self { date: total.date, folder_id: total.folder_id, agent_id: total.agent_id, sum }
    }
}

#[cfg(test)]
mod tests;
