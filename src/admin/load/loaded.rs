//! Files that were loaded before, by what was read of them. Touches the database.

use crate::admin::error::Error;
use crate::admin::load::input::Input;
use crate::admin::load::mapping::Mapping;
use crate::admin::load::records::cannot_read;
use crate::admin::load::text::{Fingerprint, known_beginning};
use postgres::Transaction;
use std::sync::Arc;

/// How much of a file was loaded before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Bytes of its text that hold whole lines.
    pub complete: u64,
    /// The call of a line that had no end then: what is there now takes its place.
    pub unfinished: Option<(i32, i64)>,
    /// When, if nothing is new in it.
    pub all_at: Option<String>,
    /// Whether its calls were loaded with ids; none: it had no calls.
    pub had_ids: Option<bool>,
}

const FILES: &str = include_str!("sql/loaded_files.sql");
const NOTE: &str = include_str!("sql/note_file.sql");

impl Known {
    /// Looks for the file, or for a beginning of it.
    pub fn find(transaction: &mut Transaction<'_>, input: &Input, mapping: &Mapping) -> Result<Self, Error> {
        let cannot = |error: std::io::Error| cannot_read(&error);
        let rows = transaction.query(FILES, &[])?;
        let mut beginnings = Vec::new();
        let mut older = Vec::new();
        for row in &rows {
            let bytes: Option<i64> = row.try_get("bytes")?;
            let sha256: Vec<u8> = row.try_get("sha256")?;
            let Ok(sha256) = <[u8; 32]>::try_from(sha256) else { continue };
            match bytes.map(u64::try_from) {
                Some(Ok(bytes)) => beginnings.push((bytes, sha256)),
                _ => older.push(sha256),
            }
        }
        let text = || input.text(mapping.file.encoding, Arc::default()).map_err(cannot);
        // Files that were loaded by an earlier version are known by their bytes.
        let mut found = None;
        if !older.is_empty() {
            let digest = input.digest_of_bytes().map_err(cannot)?;
            found = older.contains(&digest).then_some(digest);
        }
        let is_whole = found.is_some();
        if found.is_none() && !beginnings.is_empty() {
            found = known_beginning(text()?, &beginnings).map_err(cannot)?.map(|(_, sha256)| sha256);
        }
        let Some(found) = found else { return Ok(Self::default()) };
        let same = |row: &&postgres::Row| row.try_get::<_, Vec<u8>>("sha256").is_ok_and(|sha256| sha256 == found);
        let Some(row) = rows.iter().find(same) else { return Ok(Self::default()) };
        let bytes = row.try_get::<_, Option<i64>>("bytes")?.and_then(|bytes| u64::try_from(bytes).ok());
        let complete = row.try_get::<_, Option<i64>>("complete_bytes")?.and_then(|bytes| u64::try_from(bytes).ok());
        let unfinished: (Option<i32>, Option<i64>) =
            (row.try_get("unfinished_organization_id")?, row.try_get("unfinished_call_id")?);
        let is_all = is_whole || {
            let mut text = text()?;
            std::io::copy(&mut text, &mut std::io::sink()).map_err(cannot)?;
            bytes == Some(text.fingerprint().bytes)
        };
        Ok(Self {
            complete: if is_all { u64::MAX } else { complete.or(bytes).unwrap_or_default() },
            unfinished: if is_all { None } else { unfinished.0.zip(unfinished.1) },
            all_at: if is_all { row.try_get("loaded_at")? } else { None },
            had_ids: if row.try_get::<_, i64>("calls")? > 0 { row.try_get("has_call_ids")? } else { None },
        })
    }
}

/// Notes what was read, so that it is known next time.
pub fn note(
    transaction: &mut Transaction<'_>,
    name: &str,
    calls: u64,
    read: &Fingerprint,
    unfinished: Option<(i32, i64)>,
    has_ids: bool,
) -> Result<(), Error> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (organization, call) = unfinished.unzip();
    transaction.execute(
        NOTE,
        &[
            &&read.sha256[..],
            &name,
            &number(calls),
            &number(read.bytes),
            &number(read.complete_bytes),
            &organization,
            &call,
            &has_ids,
        ],
    )?;
    Ok(())
}
