//! What each command does first in the database. Touches it.

use crate::admin::adopt::catalogue::failed;
use crate::admin::error::Error;
use postgres::{Client, Transaction};

/// Everything happens in transactions and with statements without a name, because a pooler may hand each transaction to
/// another session of the server, and each session to somebody else.
pub fn begin(client: &mut Client) -> Result<Transaction<'_>, Error> {
    let mut transaction = crate::admin::transaction(client)?;
    // A plan of a function is compiled for longer than it runs.
    transaction.batch_execute("set local jit = off; set local client_min_messages = warning").map_err(failed)?;
    Ok(transaction)
}

/// One command at a time; those that wait do so until it is done.
pub fn lock(transaction: &mut Transaction<'_>) -> Result<(), Error> {
    transaction.batch_execute("select pg_advisory_xact_lock(hashtext('callstats adopt'))").map_err(failed)
}

/// Whether `adopt on` was ever used here.
pub fn is_installed(transaction: &mut Transaction<'_>) -> Result<bool, Error> {
    let row = transaction.query_typed_one("select to_regclass('callstats.source') is not null", &[]).map_err(failed)?;
    row.try_get(0).map_err(failed)
}
