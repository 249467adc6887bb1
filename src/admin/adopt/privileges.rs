//! What the worker may read of the site: granted with a mapping, revoked without it. Touches the database.

use crate::admin::adopt::catalogue::{Used, failed};
use crate::admin::error::Error;
use postgres::Transaction;
use postgres::types::Type;

/// Gives the worker what the mapping reads, and notes what it did not have before.
pub fn grant(transaction: &mut Transaction<'_>, name: &str, used: &[Used]) -> Result<(), Error> {
    let missing: Vec<String> = used.iter().flat_map(Used::missing).collect();
    for privilege in &missing {
        transaction.batch_execute(&format!("grant {privilege} to callstats_worker")).map_err(|error| {
            Error::new(
                failed(error).message,
                format!("let the owner run: grant {privilege} to callstats_worker; then run this again"),
            )
        })?;
    }
    let revocations: Vec<String> =
        missing.iter().map(|privilege| format!("revoke {privilege} from callstats_worker")).collect();
    transaction
        .execute_typed(
            "update callstats.source set granted = array(select distinct unnest(granted || $2::text[]))
             where name = $1",
            &[(&name, Type::TEXT), (&revocations, Type::TEXT_ARRAY)],
        )
        .map_err(failed)?;
    Ok(())
}

/// Takes back what it was granted.
pub fn revoke(transaction: &mut Transaction<'_>, revocations: Vec<String>) -> Result<(), Error> {
    for revocation in revocations {
        // Of a table that was dropped there is nothing to revoke.
        let mut savepoint = transaction.savepoint("revoke").map_err(failed)?;
        if savepoint.batch_execute(&revocation).is_ok() {
            savepoint.commit().map_err(failed)?;
        }
    }
    Ok(())
}
