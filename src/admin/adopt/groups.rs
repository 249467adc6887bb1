//! The groups of days, on their way from the site's rows to a temporary table. The savepoint in which the rows are read
//! is rolled back before anything is written, so they wait in an unlinked file: memory does not grow with their number.
//! Touches the database and the folder of temporary files.

use crate::admin::adopt::catalogue::failed;
use crate::admin::adopt::reader::{Reader, number, text};
use crate::admin::adopt::sql;
use crate::admin::error::Error;
use crate::admin::temporary;
use postgres::Transaction;
use postgres::types::Type;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Seek, Write};

/// Groups that are noted by one statement.
const BATCH: usize = 10_000;

/// Groups that were read: a JSON array on each line of the file.
pub struct Groups(BufWriter<File>);

impl Groups {
    pub fn new() -> Result<Self, Error> {
        Ok(Self(BufWriter::new(temporary::file().map_err(cannot_keep)?)))
    }

    /// Adds the rows of a statement of [`sql::day_groups`].
    pub fn read(&mut self, reader: &mut Reader<'_>, statement: &str) -> Result<(), Error> {
        reader.each_row(statement, 8, &mut |row| writeln!(self.0, "{row}").map_err(cannot_keep))
    }

    /// Notes them in pg_temp.callstats_groups.
    pub fn note(self, transaction: &mut Transaction<'_>) -> Result<(), Error> {
        let mut file = self.0.into_inner().map_err(|error| cannot_keep(error.into_error()))?;
        file.rewind().map_err(cannot_keep)?;
        transaction.batch_execute(sql::CREATE_GROUPS).map_err(failed)?;
        let mut batch = Vec::new();
        for line in BufReader::new(file).lines() {
            let line = line.map_err(cannot_keep)?;
            batch.push(serde_json::from_str(&line).map_err(|error| Error::new(error.to_string(), ""))?);
            if batch.len() == BATCH {
                insert(transaction, &batch)?;
                batch.clear();
            }
        }
        insert(transaction, &batch)
    }
}

fn insert(transaction: &mut Transaction<'_>, rows: &[Value]) -> Result<(), Error> {
    let texts = |at: usize| rows.iter().map(|row| text(row, at)).collect::<Vec<&str>>();
    let numbers = |at: usize| rows.iter().map(|row| number(row, at)).collect::<Vec<i64>>();
    transaction
        .execute_typed(
            sql::NOTE_GROUPS,
            &[
                (&texts(0), Type::TEXT_ARRAY),
                (&texts(1), Type::TEXT_ARRAY),
                (&texts(2), Type::TEXT_ARRAY),
                (&texts(3), Type::TEXT_ARRAY),
                (&texts(4), Type::TEXT_ARRAY),
                (&texts(5), Type::TEXT_ARRAY),
                (&numbers(6), Type::INT8_ARRAY),
                (&numbers(7), Type::INT8_ARRAY),
            ],
        )
        .map_err(failed)?;
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn cannot_keep(error: std::io::Error) -> Error {
    Error::new(format!("cannot keep groups in a temporary file: {error}"), temporary::HINT)
}
