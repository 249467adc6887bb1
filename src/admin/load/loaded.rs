//! Texts that were loaded before, by what was read of them, for which organization and with which mapping. Touches the
//! database.

use crate::admin::error::Error;
use crate::admin::load::input::Input;
use crate::admin::load::mapping::Mapping;
use crate::admin::load::records::cannot_read;
use crate::admin::load::statistics::thousands;
use crate::admin::load::text::{Fingerprint, known_beginnings};
use crate::admin::load::value::{Columns, Values};
use chrono::NaiveDate;
use postgres::{Row, Transaction};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;
use toml::{Table, Value};

const FILES: &str = include_str!("sql/loaded_files.sql");
const NOTE: &str = include_str!("sql/note_file.sql");
const NOTE_AGAIN: &str = include_str!("sql/note_again.sql");
const HAS_CALLS: &str = include_str!("sql/has_calls.sql");
const MAY_HAVE_SUMS: &str = include_str!("sql/may_have_sums.sql");
/// With more folders than these it is not noted which ones they are.
const MAX_FOLDERS: usize = 1000;

/// What becomes of a text that was loaded before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It is passed over if it was loaded with the same mapping, and refused otherwise.
    SameMapping,
    /// It is passed over whatever it was loaded with.
    Skip,
    /// It is loaded.
    Again,
}

/// What a text is loaded for, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Of all calls; none: each record says which.
    organization_id: Option<i32>,
    mapping: [u8; 32],
    /// The organization of all calls does not exist, and so no call of it.
    is_nowhere: bool,
}

impl Run {
    /// `given` is the mapping as it was given.
    pub fn new(
        transaction: &mut Transaction<'_>,
        input: &Input,
        mapping: &Mapping,
        mut given: Table,
    ) -> Result<Self, Error> {
        let (company, organization) = (constant(mapping, true), constant(mapping, false));
        let place = company.zip(organization);
        // What is in the text is known by the text; and an organization by its id, because its name may change.
        let without: &[&str] = if place.is_some() { &["company", "organization"] } else { &[] };
        for key in ["about", "encoding"].iter().chain(without) {
            given.remove(*key);
        }
        for field in ["call", "company", "organization", "folder", "agent", "start", "duration"] {
            if let Some(value) = given.get_mut(field).filter(|value| value.is_str()) {
                *value = Value::Table(Table::from_iter([("column".to_owned(), value.clone())]));
            }
        }
        let mut digest = Sha256::new();
        digest.update(given.to_string());
        let names: BTreeSet<String> = mapping.columns.names().iter().map(|name| Columns::key(name)).collect();
        for name in names {
            if let Some(part) = input.part_of_name(&name) {
                digest.update(format!("\0{name}\0{part}"));
            }
        }
        let organization_id = match &place {
            None => None,
            Some((company, organization)) => transaction
                .query_opt(
                    "select o.id from callstats.organization o join callstats.company c on c.id = o.company_id
                     where c.short_name = $1 and o.short_name = $2",
                    &[company, organization],
                )?
                .map(|row| row.try_get(0))
                .transpose()?,
        };
        let is_nowhere = place.is_some() && organization_id.is_none();
        Ok(Self { organization_id, mapping: digest.finalize().into(), is_nowhere })
    }
}

/// The name of the company or the organization of all calls.
fn constant(mapping: &Mapping, is_company: bool) -> Option<String> {
    let field = if is_company { &mapping.company } else { &mapping.organization };
    let is_constant = field.list.iter().all(|(extract, ())| extract.conditions.is_empty());
    if !is_constant || !field.columns().is_empty() {
        return None;
    }
    let none = Values::default();
    let (text, ()) = field.text(&none, &mapping.columns).ok()??;
    Some(text.into_owned())
}

/// How much of a text was loaded before.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Bytes of it that hold whole lines.
    pub complete: u64,
    /// The call of a line that had no end then: what is there now takes its place.
    pub unfinished: Option<(i32, i64)>,
    /// When, if nothing is new in it.
    pub all_at: Option<String>,
    /// Whether its calls were loaded with ids.
    pub had_ids: Option<bool>,
    /// It was loaded with another mapping: no call of it may be passed over, or count twice.
    pub refusal: Option<Error>,
    /// None of its calls is there any more.
    pub are_calls_gone: bool,
    content: Content,
}

/// What a text had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// None: that is not known.
    pub organizations: Option<Vec<i32>>,
    pub folders: Option<Vec<i32>>,
    pub days: Option<(NaiveDate, NaiveDate)>,
}

impl Content {
    fn of(row: &Row) -> Result<Self, Error> {
        let days: (Option<NaiveDate>, Option<NaiveDate>) = (row.try_get("first_day")?, row.try_get("last_day")?);
        Ok(Self {
            organizations: row.try_get("organization_ids")?,
            folders: row.try_get("folder_ids")?,
            days: days.0.zip(days.1),
        })
    }

    /// With what the beginning of the text had.
    fn after(&self, before: &Self) -> Self {
        let joined = |one: &Option<Vec<i32>>, other: &Option<Vec<i32>>| {
            let all: BTreeSet<i32> = one.as_ref()?.iter().chain(other.as_ref()?).copied().collect();
            Some(all.into_iter().collect::<Vec<i32>>())
        };
        let days: Vec<NaiveDate> = [self.days, before.days].into_iter().flatten().flat_map(<[_; 2]>::from).collect();
        Self {
            organizations: joined(&self.organizations, &before.organizations),
            folders: joined(&self.folders, &before.folders),
            days: days.iter().min().copied().zip(days.iter().max().copied()),
        }
    }

    /// Whether it is certain that none of the calls is there.
    fn is_gone(&self, transaction: &mut Transaction<'_>) -> Result<bool, Error> {
        let Some((organizations, (first, last))) = self.organizations.as_ref().zip(self.days) else {
            return Ok(false);
        };
        if transaction.query_one(HAS_CALLS, &[organizations, &first, &last])?.try_get(0)? {
            return Ok(false);
        }
        let row = transaction.query_one(MAY_HAVE_SUMS, &[])?;
        let (has_rollup, may_read): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
        if !has_rollup || !may_read {
            return Ok(!has_rollup);
        }
        let detached = "select exists (select from callstats.rollup_state where calls_kept_since > $1)";
        let has_sums_only: bool = transaction.query_one(detached, &[&first])?.try_get(0)?;
        Ok(!has_sums_only)
    }
}

impl Known {
    /// Looks for the text, or for a beginning of it.
    pub fn find(
        transaction: &mut Transaction<'_>,
        input: &Input,
        mapping: &Mapping,
        run: &Run,
        policy: Policy,
    ) -> Result<Self, Error> {
        if policy == Policy::Again || run.is_nowhere {
            return Ok(Self::default());
        }
        let cannot = |error: std::io::Error| cannot_read(&error);
        let text = || input.text(mapping.file.encoding, Arc::default()).map_err(cannot);
        let mut rows = Vec::new();
        for row in transaction.query(FILES, &[])? {
            rows.extend(Loaded::of(&row)?);
        }
        rows.retain(|row| !row.is_of_another_organization(run));
        // Files that were loaded by an earlier version are known by their bytes.
        let older = rows.iter().any(|row| row.bytes.is_none());
        let digest = if older { Some(input.digest_of_bytes().map_err(cannot)?) } else { None };
        let beginnings: Vec<(u64, [u8; 32])> =
            rows.iter().filter_map(|row| row.bytes.map(|bytes| (bytes, row.sha256))).collect();
        let found =
            if beginnings.is_empty() { Vec::new() } else { known_beginnings(text()?, &beginnings).map_err(cannot)? };
        rows.retain(|row| match row.bytes {
            None => Some(row.sha256) == digest,
            Some(bytes) => found.contains(&(bytes, row.sha256)),
        });
        // The whole file of an earlier version is longer than any of its beginnings.
        rows.sort_by_key(|row| row.bytes.unwrap_or(u64::MAX));
        let is_same = |row: &&Loaded| policy == Policy::Skip || row.is_same(run);
        let same = rows.iter().rev().find(is_same);
        let Some(row) = same.or(rows.last()) else { return Ok(Self::default()) };
        let is_all = row.bytes.is_none() || {
            let mut text = text()?;
            std::io::copy(&mut text, &mut std::io::sink()).map_err(cannot)?;
            row.bytes == Some(text.fingerprint().bytes)
        };
        let is_same = same.is_some();
        let are_calls_gone = row.content.is_gone(transaction)?;
        Ok(Self {
            complete: if is_all { u64::MAX } else { row.complete.or(row.bytes).unwrap_or_default() },
            unfinished: row.unfinished.filter(|_| is_same && !is_all),
            all_at: is_all.then(|| row.at.clone()).filter(|_| is_same),
            had_ids: Some(row.had_ids),
            refusal: (!is_same).then(|| row.refusal(is_all, are_calls_gone)),
            are_calls_gone: is_same && are_calls_gone,
            content: if is_same { row.content.clone() } else { Content::default() },
        })
    }

    fn is_beginning(&self) -> bool {
        self.complete > 0 && self.refusal.is_none()
    }
}

/// A text that was loaded.
struct Loaded {
    sha256: [u8; 32],
    /// None: `sha256` is that of the file.
    bytes: Option<u64>,
    complete: Option<u64>,
    unfinished: Option<(i32, i64)>,
    calls: i64,
    had_ids: bool,
    organization_id: Option<i32>,
    /// None: an earlier version loaded it.
    mapping: Option<Vec<u8>>,
    at: String,
    content: Content,
}

impl Loaded {
    fn of(row: &Row) -> Result<Option<Self>, Error> {
        let Ok(sha256) = <[u8; 32]>::try_from(row.try_get::<_, Vec<u8>>("text_sha256")?) else { return Ok(None) };
        let number = |column: &str| -> Result<Option<u64>, Error> {
            Ok(row.try_get::<_, Option<i64>>(column)?.and_then(|number| u64::try_from(number).ok()))
        };
        let unfinished: (Option<i32>, Option<i64>) =
            (row.try_get("unfinished_organization_id")?, row.try_get("unfinished_call_id")?);
        Ok(Some(Self {
            sha256,
            bytes: number("bytes")?,
            complete: number("complete_bytes")?,
            unfinished: unfinished.0.zip(unfinished.1),
            calls: row.try_get("calls")?,
            had_ids: row.try_get("has_call_ids")?,
            organization_id: row.try_get("organization_id")?,
            mapping: row.try_get("mapping_sha256")?,
            at: row.try_get("loaded_at")?,
            content: Content::of(row)?,
        }))
    }

    /// Of what an earlier version loaded, nothing else is known.
    fn is_same(&self, run: &Run) -> bool {
        self.mapping.as_ref().is_none_or(|mapping| mapping[..] == run.mapping)
    }

    fn is_of_another_organization(&self, run: &Run) -> bool {
        self.organization_id.zip(run.organization_id).is_some_and(|(one, other)| one != other)
    }

    fn refusal(&self, is_all: bool, are_calls_gone: bool) -> Error {
        let calls = u64::try_from(self.calls).unwrap_or_default();
        let gone = if are_calls_gone { ", none of which is there any more" } else { "" };
        let hint = if are_calls_gone {
            "--again loads all of it"
        } else {
            "delete these calls, and load it with --again, which counts all of it; if they are right, --if-loaded skip \
             passes over what was loaded"
        };
        let (what, calls) = (if is_all { "it" } else { "the beginning of it" }, thousands(calls));
        Error::new(
            format!(
                "{what} was loaded before with another mapping or other options, at {}: {calls} calls{gone}",
                self.at
            ),
            hint,
        )
    }
}

/// What a load has to note.
pub struct Note<'a> {
    pub name: &'a str,
    pub calls: u64,
    pub read: &'a Fingerprint,
    pub unfinished: Option<(i32, i64)>,
    pub has_ids: bool,
    pub content: Content,
}

/// Notes what was read, so that it is known next time. A text that gave no call is as good as none.
pub fn note(transaction: &mut Transaction<'_>, run: &Run, known: &Known, note: Note<'_>) -> Result<(), Error> {
    if note.calls == 0 {
        return Ok(());
    }
    let content = if known.is_beginning() { note.content.after(&known.content) } else { note.content };
    let listed = |ids: Option<Vec<i32>>| ids.filter(|ids| !ids.is_empty());
    let (organizations, folders) =
        (listed(content.organizations), listed(content.folders.filter(|ids| ids.len() <= MAX_FOLDERS)));
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (organization, call) = note.unfinished.unzip();
    let (first, last) = content.days.unzip();
    let parameters: [&(dyn postgres::types::ToSql + Sync); 14] = [
        &&note.read.sha256[..],
        &run.organization_id,
        &&run.mapping[..],
        &note.name,
        &number(note.calls),
        &number(note.read.bytes),
        &number(note.read.complete_bytes),
        &organization,
        &call,
        &note.has_ids,
        &organizations,
        &folders,
        &first,
        &last,
    ];
    if transaction.execute(NOTE_AGAIN, &parameters)? == 0 {
        transaction.execute(NOTE, &parameters)?;
    }
    Ok(())
}
