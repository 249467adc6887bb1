//! Calls with ids: gathered in a temporary table, folded and compared there. Touches the database.

use super::{Counts, Existing, Store, partitions, problem_of};
use crate::admin::error::Error;
use crate::admin::load::batch::Row;
use crate::admin::load::mapping::{Take, TakeField, Takes};
use crate::admin::load::problem::Problem;
use crate::admin::load::resolve::{Resolver, Times};
use crate::admin::load::statistics::Total;
use crate::admin::name::shown;
use chrono::NaiveDateTime;
use postgres::Transaction;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{ToSql, Type};

const CREATE: &str = include_str!("../sql/gather.sql");
const SINGLE: &str = include_str!("../sql/single.sql");
const INCOMPLETE: &str = include_str!("../sql/incomplete_calls.sql");
const COMPARE: &str = include_str!("../sql/compare.sql");
const WITHOUT_PARTITION: &str = include_str!("../sql/without_partition.sql");
const REPLACE: &str = include_str!("../sql/replace_calls.sql");
const ADD: &str = include_str!("../sql/add_calls.sql");
const TOTALS: &str = include_str!("../sql/totals.sql");

const COPY: &str = "copy pg_temp.callstats_record from stdin (format binary)";
const COLUMNS: [Type; 13] = [
    Type::INT8,
    Type::INT8,
    Type::INT4,
    Type::TEXT,
    Type::INT4,
    Type::TEXT,
    Type::TIMESTAMP,
    Type::INT4,
    Type::INT2,
    Type::INT2,
    Type::INT2,
    Type::INT2,
    Type::TIMESTAMP,
];

/// For statements without any.
const NO_PARAMETERS: [&(dyn ToSql + Sync); 0] = [];

pub struct Gathered {
    folds: bool,
    takes: Takes,
    /// Records so far.
    number: i64,
}

impl Gathered {
    pub fn new(transaction: &mut Transaction<'_>, folds: bool, takes: Takes) -> Result<Self, Error> {
        transaction.batch_execute(CREATE)?;
        Ok(Self { folds, takes, number: 0 })
    }

    pub fn take(
        &mut self,
        transaction: &mut Transaction<'_>,
        resolver: &Resolver,
        rows: &[Row],
        times: &[Times],
    ) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut writer = BinaryCopyInWriter::new(transaction.copy_in(COPY)?, &COLUMNS);
        for (row, times) in rows.iter().zip(times) {
            let Some(Some(place)) = resolver.places.get(row.place) else { continue };
            self.number += 1;
            let line = i64::try_from(row.line).unwrap_or(i64::MAX);
            let folder = row.folder.and_then(|folder| i32::try_from(folder).ok());
            let (call, agent) = (row.call.as_deref(), row.agent.as_deref());
            let [folder_rank, agent_rank, start_rank, duration_rank] = &row.ranks;
            let values: [&(dyn ToSql + Sync); 13] = [
                &self.number,
                &line,
                &place.organization_id,
                &call,
                &folder,
                &agent,
                &times.started_at,
                &times.duration_ms,
                folder_rank,
                agent_rank,
                start_rank,
                duration_rank,
                &times.ended_at,
            ];
            writer.write(&values)?;
        }
        writer.finish()?;
        Ok(())
    }

    /// Makes calls of the records, and writes them.
    pub fn finish(
        self,
        store: &mut Store<'_, '_>,
        existing: Existing,
        step: impl Fn(&'static str),
    ) -> Result<(), Error> {
        store.transaction.batch_execute("analyze pg_temp.callstats_record")?;
        if self.folds {
            store.transaction.batch_execute(&fold(&self.takes))?;
        } else {
            store.transaction.batch_execute(SINGLE)?;
            let mut rows = store.transaction.query_raw(
                "select call, line, differing_line from pg_temp.callstats_folded
                 where differing_line is not null order by line",
                NO_PARAMETERS,
            )?;
            while let Some(row) = rows.next()? {
                let (call, first, line): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                let reason = format!("another record of this call, at line {first}, has other values");
                let hint = "`fold = true` in the mapping makes one call of them";
                store.problems.add(number(line), Problem::of_value("call", &call, reason, hint));
            }
        }
        let mut rows = store.transaction.query_raw(INCOMPLETE, NO_PARAMETERS)?;
        while let Some(row) = rows.next()? {
            let (line, what): (i64, String) = (row.try_get("line")?, row.try_get("what")?);
            let call: Option<String> = row.try_get("call")?;
            let reason = format!("no record of the call {} gives it {what}", shown(&call.unwrap_or_default()));
            store.problems.add(number(line), Problem::of_record(reason, "a filter leaves such records out"));
        }
        drop(rows);
        if !store.problems.is_empty() {
            return Ok(());
        }
        let used: Vec<i32> = store
            .transaction
            .query("select distinct folder from pg_temp.callstats_folded", &[])?
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()?;
        let used: Vec<usize> = used.into_iter().filter_map(|folder| usize::try_from(folder).ok()).collect();
        store.resolver.find_folders(store.transaction, Some(&used), !store.is_check)?;
        let (mut numbers, mut ids): (Vec<i32>, Vec<Option<i32>>) = (Vec::new(), Vec::new());
        for at in used {
            numbers.push(i32::try_from(at).unwrap_or(i32::MAX));
            ids.push(store.resolver.folders.get(at).and_then(|folder| folder.id));
        }
        store.transaction.execute(COMPARE, &[&numbers, &ids])?;
        if let Some((first, last)) = store.partitions.bounds() {
            let replaces = existing == Existing::Replace;
            let parameters: [&(dyn ToSql + Sync); 3] = [&first, &last, &replaces];
            let mut rows = store.transaction.query_raw(WITHOUT_PARTITION, parameters)?;
            while let Some(row) = rows.next()? {
                let (line, call, start): (i64, Option<String>, NaiveDateTime) =
                    (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                store.problems.add(number(line), partitions::missing(call.as_deref(), start));
            }
            drop(rows);
            if !store.problems.is_empty() {
                return Ok(());
            }
        }
        step("counting");
        let changed = self.count(store)?;
        if store.is_check {
            return Ok(());
        }
        step("writing");
        if existing == Existing::Replace && changed > 0 {
            store.transaction.batch_execute("analyze pg_temp.callstats_compared")?;
            store.transaction.execute(REPLACE, &[]).map_err(refused)?;
        }
        store.transaction.execute(ADD, &[]).map_err(refused)?;
        Ok(())
    }

    /// What the calls are like. Returns how many are there with other values.
    fn count(&self, store: &mut Store<'_, '_>) -> Result<u64, Error> {
        let row = store.transaction.query_one(
            "select count(*) filter (where id is null), count(*) filter (where id is not null and not differs),
                    count(*) filter (where differs)
             from pg_temp.callstats_compared",
            &[],
        )?;
        let count = |at: usize| Ok::<u64, postgres::Error>(number(row.try_get(at)?));
        let counted = Counts { new: count(0)?, unchanged: count(1)?, changed: count(2)? };
        store.counts.new += counted.new;
        store.counts.unchanged += counted.unchanged;
        store.counts.changed += counted.changed;
        // The same sums as of calls that are written as they are read, a group of calls at a time.
        let places: Vec<_> = store.resolver.places.iter().flatten().cloned().collect();
        let Store { transaction, statistics, .. } = store;
        let mut rows = transaction.query_raw(TOTALS, NO_PARAMETERS)?;
        while let Some(row) = rows.next()? {
            let organization_id: i32 = row.try_get("organization_id")?;
            let Some(place) = places.iter().find(|place| place.organization_id == organization_id) else { continue };
            let folder: i32 = row.try_get("folder")?;
            let started_at: NaiveDateTime = row.try_get("started_at")?;
            let agent: Option<String> = row.try_get("agent")?;
            let total =
                Total { calls: number(row.try_get("calls")?), milliseconds: number(row.try_get("milliseconds")?) };
            let folder = usize::try_from(folder).unwrap_or_default();
            statistics.add(folder, place, agent.as_deref(), started_at, total);
        }
        Ok(counted.changed)
    }
}

fn refused(error: postgres::Error) -> Error {
    match error.as_db_error() {
        Some(db) if db.code().code() == "23514" && db.constraint().is_none() => {
            let problem = problem_of(db, NaiveDateTime::default());
            Error::new("there is no partition for the month of a call", problem.hint)
        }
        _ => error.into(),
    }
}

fn number(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// The statement that makes one call of the records that have the same id: an array that sorts first tells which of
/// them gives a field. Its last element is the value, if that is a number.
fn fold(takes: &Takes) -> String {
    let at = "coalesce(date_part('epoch', started_at) * 1000000, 9e18)::bigint";
    let key = |field: &TakeField, rank: &str, column: &str, value: &str| {
        let key = match field.take {
            Take::First | Take::Earliest | Take::Sum | Take::Span => format!("{at}, number"),
            Take::Last | Take::Latest => format!("-{at}, -number"),
            Take::Longest => "-coalesce(duration_ms, -1), number".to_owned(),
        };
        format!("min(array[{rank}::bigint, {key}{value}]) filter (where {column} is not null)")
    };
    let is_plain = |field: &TakeField, take: Take| field.take == take && field.prefer.is_empty();
    let none = || "null::bigint[]".to_owned();
    let (start, started_at, start_join) = if is_plain(&takes.start, Take::Earliest) {
        (none(), "f.earliest", "")
    } else {
        (
            key(&takes.start, "start_rank", "started_at", ""),
            "start.started_at",
            "left join pg_temp.callstats_record start on start.number = abs(f.start_key[3])",
        )
    };
    let duration = match takes.duration.take {
        _ if is_plain(&takes.duration, Take::Longest) => none(),
        Take::Sum | Take::Span => none(),
        _ => key(&takes.duration, "duration_rank", "duration_ms", ", duration_ms"),
    };
    let simple_duration = match takes.duration.take {
        Take::Sum => "sum(duration_ms)",
        Take::Span => {
            "round(extract(epoch from max(coalesce(started_at + duration_ms * interval '1 ms', ended_at))
                 - min(started_at)) * 1000)::bigint"
        }
        _ => "max(duration_ms)",
    };
    include_str!("../sql/fold.sql")
        .replace("$folder_key", &key(&takes.folder, "folder_rank", "folder", ", folder"))
        .replace("$agent_key", &key(&takes.agent, "agent_rank", "agent", ""))
        .replace("$start_key", &start)
        .replace("$started_at", started_at)
        .replace("$start_join", start_join)
        .replace("$duration_key", &duration)
        .replace("$simple_duration", simple_duration)
}
