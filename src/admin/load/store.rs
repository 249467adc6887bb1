//! The calls of one file, in one transaction: all of them or none. Touches the database.
//!
//! Calls without ids go straight into the table as they are read. Those with ids are gathered in a temporary table:
//! there PostgreSQL makes one call of the records that have the same id, and compares it with what is there.

mod gathered;
mod partitions;

use crate::admin::error::Error;
use crate::admin::load::batch::{Batch, Opening, Row};
use crate::admin::load::problem::{Problem, Problems};
use crate::admin::load::resolve::{Resolver, Times};
use crate::admin::load::statistics::{Statistics, Total};
use chrono::NaiveDateTime;
use gathered::Gathered;
use partitions::Partitions;
use postgres::Transaction;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::{ToSql, Type};

/// What becomes of a call that is there with other values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    Replace,
    Leave,
}

/// What became of the calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub new: u64,
    pub unchanged: u64,
    /// Other values than before: replaced, or left.
    pub changed: u64,
}

pub struct Store<'t, 'c> {
    pub transaction: &'t mut Transaction<'c>,
    pub resolver: Resolver,
    pub statistics: Statistics,
    pub problems: Problems,
    pub counts: Counts,
    /// The call of the last line, which has no end.
    pub unfinished: Option<(i32, i64)>,
    /// A call of an earlier, unfinished line, whose place the first row takes.
    replaced: Option<Replaced>,
    /// Nothing is written.
    is_check: bool,
    /// The database refused a row, and takes no further statement.
    is_aborted: bool,
    gathered: Option<Gathered>,
    partitions: Partitions,
}

/// A call that is there.
struct Replaced {
    organization_id: i32,
    id: i64,
    values: Option<(i32, Option<String>, NaiveDateTime, i32)>,
}

/// A row that is ready to be a call.
struct Ready<'r> {
    row: &'r Row,
    organization_id: i32,
    folder_id: Option<i32>,
    started_at: NaiveDateTime,
    duration_ms: i32,
}

const COPY: &str = "copy callstats.call (organization_id, folder_id, agent_id, started_at, call_date, duration_ms)
    from stdin (format binary)";
const COLUMNS: [Type; 6] = [Type::INT4, Type::INT4, Type::TEXT, Type::TIMESTAMP, Type::DATE, Type::INT4];

impl<'t, 'c> Store<'t, 'c> {
    pub fn new(
        transaction: &'t mut Transaction<'c>,
        resolver: Resolver,
        opening: &Opening,
        unfinished: Option<(i32, i64)>,
        is_check: bool,
    ) -> Result<Self, Error> {
        let gathered = if opening.has_call {
            Some(Gathered::new(transaction, opening.folds, opening.takes.clone())?)
        } else {
            None
        };
        let replaced = match unfinished {
            Some((organization_id, id)) => {
                let row = transaction.query_opt(
                    "select folder_id, agent_id, started_at, duration_ms from callstats.call
                     where organization_id = $1 and id = $2",
                    &[&organization_id, &id],
                )?;
                let values = match row {
                    Some(row) => Some((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)),
                    None => None,
                };
                Some(Replaced { organization_id, id, values })
            }
            None => None,
        };
        let partitions = Partitions::read(transaction)?;
        Ok(Self {
            transaction,
            resolver,
            partitions,
            statistics: Statistics::default(),
            problems: Problems::default(),
            counts: Counts::default(),
            unfinished: None,
            replaced,
            is_check,
            is_aborted: false,
            gathered,
        })
    }

    /// Takes rows. After the first problem it only looks for more of them.
    pub fn take(&mut self, mut batch: Batch) -> Result<(), Error> {
        if self.is_aborted {
            return Ok(());
        }
        self.resolver.take_names(self.transaction, &mut batch, &mut self.problems)?;
        let mut times = Vec::with_capacity(batch.rows.len());
        for row in &batch.rows {
            match self.resolver.times(self.transaction, row)? {
                Ok(at) => times.push(at),
                Err(problem) => {
                    self.problems.add(row.line, problem);
                    times.push(Times::default());
                }
            }
        }
        if !self.problems.is_empty() {
            return Ok(());
        }
        if let Some(gathered) = &mut self.gathered {
            return gathered.take(self.transaction, &self.resolver, &batch.rows, &times);
        }
        self.resolver.find_folders(self.transaction, None, !self.is_check)?;
        let mut ready = Vec::with_capacity(batch.rows.len());
        for (row, times) in batch.rows.iter().zip(times) {
            let place = self.resolver.places.get(row.place).and_then(Option::as_ref);
            let folder = row.folder.and_then(|number| self.resolver.folders.get(number).map(|folder| (number, folder)));
            let (Some(place), Some((number, folder)), Some(started_at), Some(duration_ms)) =
                (place, folder, times.started_at, times.duration_ms)
            else {
                self.problems.add(row.line, Problem::of_record("the record is not complete", ""));
                continue;
            };
            if !self.partitions.have(started_at) {
                self.problems.add(row.line, partitions::missing(None, started_at));
                continue;
            }
            self.statistics.add(number, place, row.agent.as_deref(), started_at, Total::of_one(duration_ms));
            ready.push(Ready {
                row,
                organization_id: place.organization_id,
                folder_id: folder.id,
                started_at,
                duration_ms,
            });
        }
        if !self.problems.is_empty() {
            return Ok(());
        }
        let rows = self.after_replacement(&ready)?;
        self.write(&ready[rows..])
    }

    /// Puts the first row in the place of the call of an unfinished line. Returns how many rows that took.
    fn after_replacement(&mut self, ready: &[Ready<'_>]) -> Result<usize, Error> {
        let Some(first) = ready.first() else { return Ok(0) };
        let Some(replaced) = self.replaced.take() else { return Ok(0) };
        let values = (first.folder_id, first.row.agent.as_deref(), first.started_at, first.duration_ms);
        let is_same = replaced.organization_id == first.organization_id
            && replaced.values.as_ref().is_some_and(|(folder, agent, started_at, duration)| {
                (Some(*folder), agent.as_deref(), *started_at, *duration) == values
            });
        if is_same {
            self.counts.unchanged += 1;
            if first.row.is_unfinished {
                self.unfinished = Some((replaced.organization_id, replaced.id));
            }
            return Ok(1);
        }
        if replaced.values.is_some() {
            self.counts.changed += 1;
            if !self.is_check {
                self.transaction.execute(
                    "delete from callstats.call where organization_id = $1 and id = $2",
                    &[&replaced.organization_id, &replaced.id],
                )?;
                self.write_one(first)?;
            }
            return Ok(1);
        }
        Ok(0)
    }

    fn write(&mut self, ready: &[Ready<'_>]) -> Result<(), Error> {
        self.counts.new += ready.len() as u64;
        if self.is_check || ready.is_empty() {
            return Ok(());
        }
        let (last, ready) = match ready.split_last() {
            Some((last, others)) if last.row.is_unfinished => (Some(last), others),
            _ => (None, ready),
        };
        if !ready.is_empty() {
            let written = copy(self.transaction, ready);
            if let Err(error) = written {
                let (line, problem) = refused(&error, ready).ok_or(error)?;
                self.problems.add(line, problem);
                self.is_aborted = true;
                return Ok(());
            }
        }
        match last {
            Some(last) => self.write_one(last),
            None => Ok(()),
        }
    }

    /// Writes a call whose id matters.
    fn write_one(&mut self, ready: &Ready<'_>) -> Result<(), Error> {
        let row = self.transaction.query_one(
            "insert into callstats.call (organization_id, folder_id, agent_id, started_at, call_date, duration_ms)
             values ($1, $2, $3, $4, $5, $6) returning id",
            &[
                &ready.organization_id,
                &ready.folder_id,
                &ready.row.agent.as_deref(),
                &ready.started_at,
                &ready.started_at.date(),
                &ready.duration_ms,
            ],
        )?;
        if ready.row.is_unfinished {
            self.unfinished = Some((ready.organization_id, row.try_get(0)?));
        }
        Ok(())
    }

    /// After the last row: makes calls of what was gathered.
    pub fn finish(&mut self, existing: Existing, step: impl Fn(&'static str)) -> Result<(), Error> {
        if !self.problems.is_empty() {
            return Ok(());
        }
        let Some(gathered) = self.gathered.take() else { return Ok(()) };
        step("comparing");
        gathered.finish(self, existing, step)
    }
}

fn copy(transaction: &mut Transaction<'_>, ready: &[Ready<'_>]) -> Result<(), postgres::Error> {
    let mut writer = BinaryCopyInWriter::new(transaction.copy_in(COPY)?, &COLUMNS);
    for one in ready {
        let date = one.started_at.date();
        let agent = one.row.agent.as_deref();
        let values: [&(dyn ToSql + Sync); 6] =
            [&one.organization_id, &one.folder_id, &agent, &one.started_at, &date, &one.duration_ms];
        writer.write(&values)?;
    }
    writer.finish()?;
    Ok(())
}

/// The row that the database refused, and why. None: it was not about a row.
fn refused(error: &postgres::Error, ready: &[Ready<'_>]) -> Option<(u64, Problem)> {
    let error = error.as_db_error()?;
    // Data exceptions, constraints, and what triggers raise; all else is about the server or the connection.
    if !["22", "23", "44", "P0"].iter().any(|class| error.code().code().starts_with(class)) {
        return None;
    }
    // "COPY call, line 3", also where the server speaks another language.
    let context = error.where_()?;
    let number = context.split(|character: char| !character.is_ascii_digit()).find(|part| !part.is_empty())?;
    let row = ready.get(number.parse::<usize>().ok()?.checked_sub(1)?)?;
    Some((row.row.line, problem_of(error, row.started_at)))
}

/// What the database refused.
fn problem_of(error: &postgres::error::DbError, started_at: NaiveDateTime) -> Problem {
    if error.code().code() == "23514" && error.constraint().is_none() {
        return partitions::missing(None, started_at);
    }
    Problem::of_record(format!("the database refuses it: {}", error.message()), error.hint().unwrap_or_default())
}
