//! The groups of days, on their way from the site's rows to a temporary table. The savepoint in which the rows are read
//! is rolled back before anything is written, so they wait in an unlinked file: memory does not grow with their number.
//! Touches the database and the folder of temporary files.

use crate::admin::adopt::catalogue::failed;
use crate::admin::adopt::reader::Reader;
use crate::admin::adopt::sql;
use crate::admin::error::Error;
use crate::admin::temporary;
use chrono::{Datelike as _, NaiveDate};
use postgres::types::Type;
use postgres::{Row, Transaction};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Seek, Write};

/// Groups that are noted by one statement.
const BATCH: usize = 10_000;

/// Zone, company, organization, folder, agent, day since 1 January 1, calls and milliseconds.
type Group<Text> = (Text, Text, Text, Text, Option<Text>, i32, i64, i64);

/// Groups that were read: a JSON array on each line of the file.
pub struct Groups(BufWriter<File>);

impl Groups {
    pub fn new() -> Result<Self, Error> {
        Ok(Self(BufWriter::new(temporary::file().map_err(cannot_keep)?)))
    }

    /// Adds the rows of a statement of [`sql::day_groups`] for a zone.
    pub fn read(&mut self, reader: &mut Reader<'_>, statement: &str, zone: &str) -> Result<(), Error> {
        reader.each_row(statement, sql::GROUP_COLUMNS, &mut |row| {
            let group = group(zone, row).map_err(failed)?;
            serde_json::to_writer(&mut self.0, &group).map_err(|error| cannot_keep(error.into()))?;
            self.0.write_all(b"\n").map_err(cannot_keep)
        })
    }

    /// Notes them in pg_temp.callstats_groups.
    pub fn note(self, transaction: &mut Transaction<'_>) -> Result<(), Error> {
        let mut file = self.0.into_inner().map_err(|error| cannot_keep(error.into_error()))?;
        file.rewind().map_err(cannot_keep)?;
        transaction.batch_execute(sql::CREATE_GROUPS).map_err(failed)?;
        let mut batch = Vec::new();
        for line in BufReader::new(file).lines() {
            let line = line.map_err(cannot_keep)?;
            batch.push(serde_json::from_str(&line).map_err(|error| cannot_keep(error.into()))?);
            if batch.len() == BATCH {
                insert(transaction, &batch)?;
                batch.clear();
            }
        }
        insert(transaction, &batch)?;
        transaction.batch_execute("analyze pg_temp.callstats_groups").map_err(failed)
    }
}

fn group<'a>(zone: &'a str, row: &'a Row) -> Result<Group<&'a str>, postgres::Error> {
    let day: NaiveDate = row.try_get(4)?;
    let agent = row.try_get::<_, Option<&str>>(3)?.filter(|agent| !agent.is_empty());
    Ok((
        zone,
        row.try_get(0)?,
        row.try_get(1)?,
        row.try_get(2)?,
        agent,
        day.num_days_from_ce(),
        row.try_get(5)?,
        row.try_get(6)?,
    ))
}

fn insert(transaction: &mut Transaction<'_>, groups: &[Group<String>]) -> Result<(), Error> {
    let zones: Vec<&str> = groups.iter().map(|group| &*group.0).collect();
    let companies: Vec<&str> = groups.iter().map(|group| &*group.1).collect();
    let organizations: Vec<&str> = groups.iter().map(|group| &*group.2).collect();
    let folders: Vec<&str> = groups.iter().map(|group| &*group.3).collect();
    let agents: Vec<Option<&str>> = groups.iter().map(|group| group.4.as_deref()).collect();
    let days: Vec<_> = groups.iter().map(|group| NaiveDate::from_num_days_from_ce_opt(group.5)).collect();
    let calls: Vec<i64> = groups.iter().map(|group| group.6).collect();
    let milliseconds: Vec<i64> = groups.iter().map(|group| group.7).collect();
    transaction
        .execute_typed(
            sql::NOTE_GROUPS,
            &[
                (&zones, Type::TEXT_ARRAY),
                (&companies, Type::TEXT_ARRAY),
                (&organizations, Type::TEXT_ARRAY),
                (&folders, Type::TEXT_ARRAY),
                (&agents, Type::TEXT_ARRAY),
                (&days, Type::DATE_ARRAY),
                (&calls, Type::INT8_ARRAY),
                (&milliseconds, Type::INT8_ARRAY),
            ],
        )
        .map_err(failed)?;
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn cannot_keep(error: std::io::Error) -> Error {
    Error::new(format!("cannot keep groups in a temporary file: {error}"), temporary::HINT)
}
