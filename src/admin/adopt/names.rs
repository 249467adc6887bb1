//! Creates the companies, organizations and folders that an adopted table names. Touches the database.

use crate::admin::adopt::catalogue::failed;
use crate::admin::adopt::mapping::Mapping;
use crate::admin::adopt::reader::{Reader, text};
use crate::admin::adopt::sql;
use crate::admin::adopt::types::Resolved;
use crate::admin::error::Error;
use postgres::Transaction;
use postgres::types::Type;

/// Creates the companies, organizations and folders of the calls that a condition on `t.start` selects.
pub fn create_names(transaction: &mut Transaction<'_>, source: &Resolved, condition: &str) -> Result<[u64; 3], Error> {
    let mut reader = Reader::new(transaction, &source.mapping)?;
    let rows = reader.rows(&sql::names(source, condition), 3)?;
    reader.finish()?;
    let column = |at: usize| rows.iter().map(|row| text(row, at)).collect::<Vec<&str>>();
    transaction.batch_execute(sql::CREATE_NAMES_TABLE).map_err(failed)?;
    let (companies, organizations, folders) = (column(0), column(1), column(2));
    transaction
        .execute_typed(
            sql::NOTE_NAMES,
            &[(&companies, Type::TEXT_ARRAY), (&organizations, Type::TEXT_ARRAY), (&folders, Type::TEXT_ARRAY)],
        )
        .map_err(failed)?;
    create_noted_names(transaction, &source.mapping)
}

/// Creates the companies, organizations and folders of pg_temp.callstats_groups.
pub fn create_names_of_groups(transaction: &mut Transaction<'_>, mapping: &Mapping) -> Result<(), Error> {
    transaction.batch_execute(sql::CREATE_NAMES_TABLE).map_err(failed)?;
    transaction.execute_typed(sql::NOTE_NAMES_OF_GROUPS, &[]).map_err(failed)?;
    create_noted_names(transaction, mapping).map(|_| ())
}

/// Creates what pg_temp.callstats_names has; returns how many companies, organizations and folders.
fn create_noted_names(transaction: &mut Transaction<'_>, mapping: &Mapping) -> Result<[u64; 3], Error> {
    let is_new: bool =
        transaction.query_typed_one(sql::HAS_NEW_ORGANIZATION, &[]).and_then(|row| row.try_get(0)).map_err(failed)?;
    let zone = mapping.get("time_zone");
    if is_new && zone.is_none() {
        return Err(Error::new(
            format!("the mapping {} has organizations that do not exist yet, and no time_zone", mapping.name()),
            "give the zone of new organizations, such as --time-zone Europe/Berlin",
        ));
    }
    transaction.batch_execute(sql::SKIP_TAKEN_IDS).map_err(failed)?;
    let [companies, organizations, folders] = sql::CREATE_NAMES;
    Ok([
        transaction.execute_typed(companies, &[]).map_err(failed)?,
        transaction.execute_typed(organizations, &[(&zone.unwrap_or("UTC"), Type::TEXT)]).map_err(failed)?,
        transaction.execute_typed(folders, &[]).map_err(failed)?,
    ])
}
