//! The days behind the horizon whose rows changed since the last look, if the mapping names a column that says when.
//! Touches the database.

use crate::admin::adopt::catalogue::failed;
use crate::admin::adopt::reader::{Reader, text};
use crate::admin::adopt::session::begin;
use crate::admin::adopt::sql;
use crate::admin::adopt::sums::{CHUNK, Done, Summed, read, write};
use crate::admin::error::Error;
use chrono::{Days, NaiveDate};
use postgres::types::Type;
use postgres::{Client, Transaction};
use std::collections::BTreeSet;

/// Transactions of the site that were running at the last look commit within this time, or are found in turns.
const SLACK: &str = "10 minutes";

/// What a look found: days in UTC, the minutes in which their rows were changed, and which rows these are.
#[derive(Default)]
struct Look {
    days: Vec<NaiveDate>,
    minutes: Vec<String>,
    seen: Vec<String>,
    /// From when on rows were looked at, and when.
    since: String,
    at: String,
}

/// Compares those days with their rows, some in each transaction. Looks overlap; a day is compared again only if the
/// look finds other rows of it than the last one did.
pub fn compare(client: &mut Client, name: &str, done: &mut Done) -> Result<(), Error> {
    let Some((look, changed)) = look(client, name)? else { return Ok(()) };
    // The local date can be the day before or after, and a folded call can start on the day before.
    let mut left: BTreeSet<NaiveDate> =
        changed.iter().flat_map(|day| (0..4).map(|n| *day - Days::new(2) + Days::new(n))).collect();
    while let Some(first) = left.first().copied() {
        let mut transaction = begin(client)?;
        let Some(Summed { source, days: Some((from, until)), .. }) = read(&mut transaction, name)? else {
            return Ok(());
        };
        let mut end = first;
        while left.remove(&end) && end < first + Days::new(CHUNK) {
            end = end + Days::new(1);
        }
        let (first, last) = (first.max(from), end.min(until));
        if first < last {
            done.compared += write(&mut transaction, &source, first, last, &mut done.corrected)?;
        }
        // What is done need not be done again if this command is interrupted.
        let complete = left.first().map(|next| *next - Days::new(2));
        note(&mut transaction, name, &look, complete)?;
        transaction.commit().map_err(failed)?;
    }
    let mut transaction = begin(client)?;
    note(&mut transaction, name, &look, None)?;
    transaction
        .execute_typed(
            "update callstats.source set changes_read_at = $2::text::timestamptz where name = $1",
            &[(&name, Type::TEXT), (&look.at, Type::TEXT)],
        )
        .map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// Looks at rows that changed since shortly before the last look. Returns what it found, and the days to compare.
fn look(client: &mut Client, name: &str) -> Result<Option<(Look, Vec<NaiveDate>)>, Error> {
    let mut transaction = begin(client)?;
    let Some(Summed { source, days: Some((from, until)), .. }) = read(&mut transaction, name)? else {
        return Ok(None);
    };
    if source.mapping.get("changed").is_none() {
        return Ok(None);
    }
    let row = transaction
        .query_typed_one(
            &format!(
                "select to_char((changes_read_at - interval '{SLACK}') at time zone 'UTC', 'YYYY-MM-DD HH24:MI') || 'Z',
                        to_char(now() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || 'Z'
                 from callstats.source where name = $1"
            ),
            &[(&name, Type::TEXT)],
        )
        .map_err(failed)?;
    let (since, at): (Option<String>, String) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    let Some(since) = since else { return Ok(None) };
    let Some(statement) = sql::changed_days(&source, &since) else { return Ok(None) };
    let mut reader = Reader::new(&mut transaction, &source.mapping)?;
    let rows = reader.rows(&statement, 3)?;
    reader.finish()?;
    let mut look = Look { since, at, ..Look::default() };
    for row in &rows {
        // Days in front of the horizon are read row by row, and summed when they are behind it.
        let Ok(day) = text(row, 0).parse::<NaiveDate>() else { continue };
        if day + Days::new(2) > from && day - Days::new(2) < until {
            look.days.push(day);
            look.minutes.push(text(row, 1).to_owned());
            look.seen.push(text(row, 2).to_owned());
        }
    }
    let changed = transaction
        .query_typed(
            "select distinct l.day from unnest($2::date[], $3::text[], $4::text[]) as l (day, changed_at, seen)
             where not exists (
                 select from callstats.source_change c
                 where c.source_id = (select id from callstats.source where name = $1) and c.call_date = l.day
                   and c.changed_at = l.changed_at::timestamptz and c.seen = l.seen)
             order by 1",
            &[
                (&name, Type::TEXT),
                (&look.days, Type::DATE_ARRAY),
                (&look.minutes, Type::TEXT_ARRAY),
                (&look.seen, Type::TEXT_ARRAY),
            ],
        )
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(Some((look, changed)))
}

/// Notes what the look saw of days before one, or of all days, and forgets what no later look can see.
fn note(transaction: &mut Transaction<'_>, name: &str, look: &Look, before: Option<NaiveDate>) -> Result<(), Error> {
    transaction
        .execute_typed(
            "delete from callstats.source_change c using callstats.source s
             where s.name = $1 and c.source_id = s.id and c.changed_at < $2::text::timestamptz",
            &[(&name, Type::TEXT), (&look.since, Type::TEXT)],
        )
        .map_err(failed)?;
    transaction
        .execute_typed(
            "insert into callstats.source_change as c (source_id, call_date, changed_at, seen)
             select s.id, l.day, l.changed_at::timestamptz, l.seen
             from callstats.source s, unnest($2::date[], $3::text[], $4::text[]) as l (day, changed_at, seen)
             where s.name = $1 and ($5::date is null or l.day < $5)
             on conflict (source_id, call_date, changed_at) do update set seen = excluded.seen
             where c.seen <> excluded.seen",
            &[
                (&name, Type::TEXT),
                (&look.days, Type::DATE_ARRAY),
                (&look.minutes, Type::TEXT_ARRAY),
                (&look.seen, Type::TEXT_ARRAY),
                (&before, Type::DATE),
            ],
        )
        .map_err(failed)?;
    Ok(())
}
