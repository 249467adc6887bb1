//! Daily sums of adopted tables: the days behind a mapping's horizon are answered from callstats.source_day, all others
//! row by row. `changes` finds the days whose rows changed. Touches the database. Each step is a transaction of its own that leaves the answers right, so that an
//! interrupted command continues at the next one.

mod changes;

use crate::admin::adopt::catalogue::{failed, look_up};
use crate::admin::adopt::groups::Groups;
use crate::admin::adopt::mapping::Mapping;
use crate::admin::adopt::names::create_names_of_groups;
use crate::admin::adopt::reader::{Reader, text};
use crate::admin::adopt::session::{begin, lock};
use crate::admin::adopt::sql;
use crate::admin::adopt::types::Resolved;
use crate::admin::error::Error;
use chrono::{Days, NaiveDate};
use postgres::types::{ToSql, Type};
use postgres::{Client, Transaction};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

/// Days that are summed in one transaction: few enough to be short, enough that the days around them do not count.
pub const CHUNK: u64 = 30;
/// `sync` runs each minute, so that each day is compared about once a day.
const RUNS_A_DAY: u64 = 1440;
const DAY_COLUMNS: &str = "organization_id, call_date, folder_id, agent_id, source_id, calls, duration_ms";

/// What one run did to the sums of a mapping.
#[derive(Default)]
pub struct Done {
    summed: u64,
    pub compared: u64,
    pub corrected: u64,
}

/// Forgets sums of days in a zone that their organization does not have any more.
pub fn forget_outdated(transaction: &mut Transaction<'_>) -> Result<(), Error> {
    transaction.execute_typed("select callstats.forget_outdated_sums()", &[]).map_err(failed)?;
    Ok(())
}

/// Forgets the sums of one mapping, because it is replaced.
pub fn forget(transaction: &mut Transaction<'_>, name: &str) -> Result<(), Error> {
    for table in ["source_day", "source_checked"] {
        let statement = format!(
            "delete from callstats.{table} where source_id = (select id from callstats.source where name = $1)"
        );
        transaction.execute_typed(&statement, &[(&name, Type::TEXT)]).map_err(failed)?;
    }
    transaction
        .execute_typed(
            "update callstats.source set summed_from = null, summed_until = null, compared_since = null
             where name = $1",
            &[(&name, Type::TEXT)],
        )
        .map_err(failed)?;
    Ok(())
}

/// Sums the days that went behind the horizon, and compares summed days with their rows: those whose rows changed, and
/// the ones that were not compared for longest.
pub fn advance(client: &mut Client, compares_all: bool, out: &mut String) -> Result<(), Error> {
    let names: Vec<String> = client
        .query_typed("select name from callstats.source order by name", &[])
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(failed)?;
    for name in names {
        let mut done = Done::default();
        while sum_next(client, &name, &mut done)? {}
        changes::compare(client, &name, &mut done)?;
        compare_in_turns(client, &name, compares_all, &mut done)?;
        if done.summed > 0 || done.corrected > 0 || compares_all && done.compared > 0 {
            let Done { summed, compared, corrected } = done;
            let _ = writeln!(out, "{name}: {summed} days summed, {compared} compared, {corrected} sums corrected");
        }
    }
    Ok(())
}

/// A mapping that has a horizon, locked against other commands, and the days that are summed.
pub struct Summed {
    pub source: Resolved,
    pub days: Option<(NaiveDate, NaiveDate)>,
    /// The first day that stays in front of the horizon.
    target: NaiveDate,
}

pub fn read(transaction: &mut Transaction<'_>, name: &str) -> Result<Option<Summed>, Error> {
    lock(transaction)?;
    let row = transaction
        .query_typed_opt(
            "select mapping, summed_from, summed_until, (now() at time zone 'UTC')::date - 1
             from callstats.source where name = $1 for update",
            &[(&name, Type::TEXT)],
        )
        .map_err(failed)?;
    let Some(row) = row else { return Ok(None) };
    let text: String = row.try_get(0).map_err(failed)?;
    let mapping = Mapping::read(Some(&text), &[])?;
    let Some(horizon) = mapping.horizon_days() else { return Ok(None) };
    let (from, until): (Option<NaiveDate>, Option<NaiveDate>) =
        (row.try_get(1).map_err(failed)?, row.try_get(2).map_err(failed)?);
    let today: NaiveDate = row.try_get(3).map_err(failed)?;
    let Some(target) = today.checked_sub_days(Days::new(horizon)) else { return Ok(None) };
    let found = look_up(transaction, mapping)?;
    Ok(Some(Summed { source: found.source, days: from.zip(until), target }))
}

/// Sums the next days. False: all behind the horizon are.
fn sum_next(client: &mut Client, name: &str, done: &mut Done) -> Result<bool, Error> {
    let mut transaction = begin(client)?;
    let Some(Summed { source, days, target }) = read(&mut transaction, name)? else { return Ok(false) };
    let (from, next) = match days {
        Some((from, until)) => (from, until),
        None => match first_day(&mut transaction, &source)? {
            Some(first) => (first, first),
            None => return Ok(false),
        },
    };
    if next >= target {
        return Ok(false);
    }
    let Some(until) = next.checked_add_days(Days::new(CHUNK)) else { return Ok(false) };
    let until = until.min(target);
    done.summed += write(&mut transaction, &source, next, until, &mut 0)?;
    transaction
        .execute_typed(
            "update callstats.source set summed_from = $2, summed_until = $3,
                    changes_read_at = coalesce(changes_read_at, now()),
                    summed_zones = (select jsonb_object_agg(id, time_zone) from callstats.organization)
             where name = $1",
            &[(&name, Type::TEXT), (&from, Type::DATE), (&until, Type::DATE)],
        )
        .map_err(failed)?;
    transaction.commit().map_err(failed)?;
    progress(name, from, until, target);
    Ok(true)
}

/// The first day on which a call can be in any zone.
fn first_day(transaction: &mut Transaction<'_>, source: &Resolved) -> Result<Option<NaiveDate>, Error> {
    let mut reader = Reader::new(transaction, &source.mapping)?;
    let rows = reader.rows(&sql::first_day(source), 1)?;
    reader.finish()?;
    Ok(rows.first().and_then(|row| text(row, 0).parse::<NaiveDate>().ok()).and_then(|day| day.pred_opt()))
}

/// Makes callstats.source_day what the rows are, from a day until another. Returns the number of days.
pub fn write(
    transaction: &mut Transaction<'_>,
    source: &Resolved,
    from: NaiveDate,
    until: NaiveDate,
    corrected: &mut u64,
) -> Result<u64, Error> {
    let Some(last) = until.pred_opt().filter(|last| *last >= from) else { return Ok(0) };
    let name = source.mapping.name().to_owned();
    let (first_sql, last_sql) = (format!("date '{from}'"), format!("date '{last}'"));
    let zones = zones(transaction, source, &sql::near(source, &first_sql, &last_sql))?;
    let mut reader = Reader::new(transaction, &source.mapping)?;
    // The planner expects few rows of a range of local dates, and would sort all of them.
    reader.prepare("set local enable_sort = off")?;
    let mut groups = Groups::new()?;
    for zone in zones {
        groups.read(&mut reader, &sql::day_groups(source, &zone, &first_sql, &last_sql), &zone)?;
    }
    reader.finish()?;
    groups.note(transaction)?;
    create_names_of_groups(transaction, &source.mapping)?;
    let parameters: [(&(dyn ToSql + Sync), Type); 3] = [(&name, Type::TEXT), (&from, Type::DATE), (&last, Type::DATE)];
    // A folder that somebody deletes at the same time takes its sums along, or waits for them.
    transaction.execute_typed(sql::LOCK_NOTED_FOLDERS, &[]).map_err(failed)?;
    let has_sums: bool = transaction
        .query_typed_one(
            "select exists (select from callstats.source_day d
             where d.source_id = (select id from callstats.source where name = $1) and d.call_date between $2 and $3)",
            &parameters,
        )
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
    if has_sums {
        *corrected += replace_sums(transaction, source, &parameters)?;
    } else {
        let statement = format!("insert into callstats.source_day ({DAY_COLUMNS}) {}", sql::day_sums(source));
        *corrected += transaction.execute_typed(&statement, &[]).map_err(failed)?;
    }
    transaction
        .execute_typed(
            "insert into callstats.source_checked (source_id, call_date, checked_at)
             select s.id, day, now() from callstats.source s, generate_series($2::date, $3::date, interval '1 day') day
             where s.name = $1 on conflict (source_id, call_date) do update set checked_at = now()",
            &parameters,
        )
        .map_err(failed)?;
    transaction
        .execute_typed(
            "update callstats.source set compared_since =
                 (select min(checked_at) from callstats.source_checked where source_id = id) where name = $1",
            &[(&name, Type::TEXT)],
        )
        .map_err(failed)?;
    Ok(u64::try_from((until - from).num_days()).unwrap_or_default())
}

/// Makes the sums of $1 from the day $2 to $3 what the groups are. Returns how many were others.
fn replace_sums(
    transaction: &mut Transaction<'_>,
    source: &Resolved,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<u64, Error> {
    let sums = sql::day_sums(source);
    transaction
        .batch_execute(&format!(
            "drop table if exists pg_temp.callstats_sums;
             create temporary table callstats_sums on commit drop as {sums};
             analyze pg_temp.callstats_sums"
        ))
        .map_err(failed)?;
    let deleted = transaction
        .execute_typed(
            "delete from callstats.source_day d
             where d.source_id = (select id from callstats.source where name = $1) and d.call_date between $2 and $3
               and not exists (
                   select from pg_temp.callstats_sums s
                   where s.organization_id = d.organization_id and s.call_date = d.call_date
                     and s.folder_id = d.folder_id and s.agent_id is not distinct from d.agent_id
                     and s.calls = d.calls and s.duration_ms = d.duration_ms)",
            parameters,
        )
        .map_err(failed)?;
    let inserted = transaction
        .execute_typed(
            &format!(
                "insert into callstats.source_day ({DAY_COLUMNS}) select {DAY_COLUMNS} from pg_temp.callstats_sums s
                 where not exists (
                     select from callstats.source_day d
                     where d.source_id = (select id from callstats.source where name = $1)
                       and d.call_date between $2 and $3
                       and s.organization_id = d.organization_id and s.call_date = d.call_date
                       and s.folder_id = d.folder_id and s.agent_id is not distinct from d.agent_id)"
            ),
            parameters,
        )
        .map_err(failed)?;
    Ok(deleted + inserted)
}

/// The zones of the organizations of rows that a condition on `t.start` selects, those of organizations that do not
/// exist yet included.
fn zones(transaction: &mut Transaction<'_>, source: &Resolved, condition: &str) -> Result<Vec<String>, Error> {
    if !source.start.depends_on_zone() {
        return Ok(vec!["UTC".into()]);
    }
    let own = source.mapping.get("time_zone");
    let zones: Vec<String> = transaction
        .query_typed(
            "select distinct time_zone from callstats.organization union select $1::text where $1::text is not null",
            &[(&own, Type::TEXT)],
        )
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(failed)?;
    if zones.len() < 2 {
        return Ok(zones);
    }
    // Each zone is one pass over the rows, and so is this.
    let mut reader = Reader::new(transaction, &source.mapping)?;
    let rows = reader.rows(&sql::organizations(source, condition), 2)?;
    reader.finish()?;
    let column = |at: usize| rows.iter().map(|row| text(row, at)).collect::<Vec<&str>>();
    transaction
        .query_typed(
            sql::ZONES_OF_ORGANIZATIONS,
            &[(&column(0), Type::TEXT_ARRAY), (&column(1), Type::TEXT_ARRAY), (&own, Type::TEXT)],
        )
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(failed)
}

/// Compares the days that were not compared for longest; all of them on demand.
fn compare_in_turns(client: &mut Client, name: &str, all: bool, done: &mut Done) -> Result<(), Error> {
    let mut left = None;
    loop {
        let mut transaction = begin(client)?;
        let Some(Summed { source, days: Some((from, until)), .. }) = read(&mut transaction, name)? else {
            return Ok(());
        };
        let days = u64::try_from((until - from).num_days()).unwrap_or_default();
        let left = left.get_or_insert(if all { days } else { days.div_ceil(RUNS_A_DAY) });
        if *left == 0 {
            return Ok(());
        }
        let oldest: Option<NaiveDate> = transaction
            .query_typed_opt(
                "select call_date from callstats.source_checked
                 where source_id = (select id from callstats.source where name = $1)
                 order by checked_at, call_date limit 1",
                &[(&name, Type::TEXT)],
            )
            .and_then(|row| row.map(|row| row.try_get(0)).transpose())
            .map_err(failed)?;
        let Some(first) = oldest else { return Ok(()) };
        let end = (first + Days::new(CHUNK.min(*left))).min(until);
        let compared = write(&mut transaction, &source, first, end, &mut done.corrected)?;
        transaction.commit().map_err(failed)?;
        done.compared += compared;
        *left = left.saturating_sub(compared.max(1));
    }
}

/// One line that is written over, on a terminal.
fn progress(name: &str, from: NaiveDate, until: NaiveDate, target: NaiveDate) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let (done, all) = ((until - from).num_days(), (target - from).num_days().max(1));
        let end = if until == target { "\n" } else { "" };
        let _ = write!(terminal, "\r{name}: {done} of {all} days summed ({}%){end}", done * 100 / all);
        let _ = terminal.flush();
    }
}
