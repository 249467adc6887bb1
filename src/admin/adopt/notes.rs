//! What is kept of a mapping in callstats.source, for `callstats check` and the next command. Touches the database.

use crate::admin::adopt::catalogue::{Found, failed};
use crate::admin::adopt::types::Resolved;
use crate::admin::adopt::{advice, report, sql, sums, warnings};
use crate::admin::error::Error;
use postgres::Transaction;
use postgres::types::Type;

/// Notes by which types the table is read. Sums of rows that were read by others are forgotten.
pub fn types(transaction: &mut Transaction<'_>, source: &Resolved) -> Result<(), Error> {
    let name = source.mapping.name();
    let types = source.types().to_string();
    let is_changed = transaction
        .query_typed_opt(
            "select from callstats.source where name = $1 and types <> $2::text::jsonb",
            &[(&name, Type::TEXT), (&types, Type::TEXT)],
        )
        .map_err(failed)?
        .is_some();
    if is_changed {
        sums::forget(transaction, name)?;
    }
    transaction
        .execute_typed(
            "update callstats.source set types = $2::text::jsonb
             where name = $1 and types is distinct from $2::text::jsonb",
            &[(&name, Type::TEXT), (&types, Type::TEXT)],
        )
        .map_err(failed)?;
    Ok(())
}

/// Keeps the warnings about a mapping for `callstats check`, and returns them.
pub fn warnings(transaction: &mut Transaction<'_>, found: &Found, all: &[Found]) -> Result<Vec<String>, Error> {
    let warnings = warnings::warnings(found, all);
    transaction
        .execute_typed(
            "update callstats.source set warnings = $2 where name = $1 and warnings <> $2",
            &[(&found.source.mapping.name(), Type::TEXT), (&warnings, Type::TEXT_ARRAY)],
        )
        .map_err(failed)?;
    Ok(warnings)
}

/// Keeps when names were looked for, in all rows or in those of the last days, and which of the latter do not count.
pub fn counts(transaction: &mut Transaction<'_>, source: &Resolved, full: bool) -> Result<(), Error> {
    let counts = report::left_out(transaction, source, &source.start.is_recent("t.start"))?;
    let pairs: serde_json::Map<String, serde_json::Value> =
        sql::REASONS.iter().zip(counts).map(|(reason, count)| ((*reason).to_owned(), count.into())).collect();
    transaction
        .execute_typed(
            "update callstats.source set synced_at = now(), left_out = $2::text::jsonb,
                    searched_at = case when $3 then now() else searched_at end where name = $1",
            &[
                (&source.mapping.name(), Type::TEXT),
                (&serde_json::Value::Object(pairs).to_string(), Type::TEXT),
                (&full, Type::BOOL),
            ],
        )
        .map_err(failed)?;
    Ok(())
}

/// Keeps the advice about indexes for `callstats check`, which may create no temporary table.
pub fn advice(transaction: &mut Transaction<'_>, found: &Found) -> Result<Vec<String>, Error> {
    let advice = advice::advice(transaction, found)?;
    transaction
        .execute_typed(
            "update callstats.source set advice = $2 where name = $1",
            &[(&found.source.mapping.name(), Type::TEXT), (&advice, Type::TEXT_ARRAY)],
        )
        .map_err(failed)?;
    Ok(advice)
}
