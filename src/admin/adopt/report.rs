//! What `adopt try` and `adopt status` print. Touches the database, reading.

use crate::admin::adopt::advice;
use crate::admin::adopt::catalogue::{Found, failed, look_up};
use crate::admin::adopt::reader::{Reader, number, text};
use crate::admin::adopt::session::is_installed;
use crate::admin::adopt::sql::{self, REASONS};
use crate::admin::adopt::types::{Resolved, literal};
use crate::admin::error::Error;
use crate::admin::output::escape;
use crate::database::ADOPTED_ORGANIZATION_DAYS;
use postgres::Transaction;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Rows that do not count, in the order of [`REASONS`], of those that a condition on `t.start` selects.
pub fn left_out(transaction: &mut Transaction<'_>, source: &Resolved, condition: &str) -> Result<Vec<i64>, Error> {
    let counts = counts(transaction, source, condition)?;
    Ok(counts.into_iter().take(REASONS.len()).collect())
}

/// Those, and then all rows.
fn counts(transaction: &mut Transaction<'_>, source: &Resolved, condition: &str) -> Result<Vec<i64>, Error> {
    let mut reader = Reader::new(transaction, &source.mapping)?;
    let rows = reader.rows(&sql::left_out(source, condition), REASONS.len() + 1)?;
    reader.finish()?;
    let row = rows.first().unwrap_or(&Value::Null);
    Ok((0..=REASONS.len()).map(|at| number(row, at)).collect())
}

/// What is in the table.
pub fn found(transaction: &mut Transaction<'_>, found: &Found, out: &mut String) -> Result<(), Error> {
    let source = &found.source;
    let mapping = &source.mapping;
    line(out, "mapping", &format!("{}: {}", mapping.name(), mapping.expression("relation")));
    if let Some(about) = mapping.get("about") {
        let _ = writeln!(
            out,
            "{:<20}{}",
            "what counts",
            about.trim().split('\n').map(shown).collect::<Vec<_>>().join("\n")
        );
    }
    line(out, "start", &format!("read as {}", source.start));
    for stranger in &found.strangers {
        line(out, "trusted with code", &format!("{stranger}; its owner can have anything run as callstats_worker"));
    }
    let counts = counts(transaction, source, "true")?;
    line(out, "rows", &counts.last().copied().unwrap_or_default().to_string());
    for (&count, reason) in counts.iter().zip(REASONS) {
        if count > 0 {
            line(out, "  left out", &format!("{count}: {reason}"));
        }
    }
    calls(transaction, source, out)?;
    clocks(transaction, source, out)
}

fn calls(transaction: &mut Transaction<'_>, source: &Resolved, out: &mut String) -> Result<(), Error> {
    let calls = sql::calls(source, source.mapping.expression("relation"), "true");
    let mut reader = Reader::new(transaction, &source.mapping)?;
    let rows = reader.rows(
        &format!(
            "select count(*), coalesce(sum(legs), 0)::bigint, coalesce(max(legs), 0)::bigint,
                    coalesce(round(avg(ms) / 1000, 3), 0)::text, count(agent), count(distinct agent),
                    count(*) filter (where coalesce(folder, '') = ''),
                    count(*) filter (where coalesce(organization, '') = ''),
                    count(distinct folder), count(distinct (company, organization))
             from ({calls}) c"
        ),
        10,
    )?;
    reader.finish()?;
    let row = rows.first().unwrap_or(&Value::Null);
    let number = |at: usize| number(row, at);
    let (total, legs, most) = (number(0), number(1), number(2));
    let average = text(row, 3);
    line(out, "calls", &total.to_string());
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let each = if total == 0 { 0.0 } else { legs as f64 / total as f64 };
    line(out, "rows for each call", &format!("{each:.2} on average, up to {most}"));
    line(out, "average duration", &format!("{average} s"));
    let (with_agent, agents) = (number(4), number(5));
    line(out, "agents", &format!("{agents}, in {with_agent} calls"));
    if with_agent > 20 && agents * 2 > with_agent {
        line(
            out,
            "  WARNING",
            "nearly each call has an agent of its own, so the expression of agent is probably wrong",
        );
    }
    line(out, "organizations", &format!("{}; {} calls have none and are in (none)", number(9), number(7)));
    line(out, "folders", &format!("{}; {} calls have none and are in (none)", number(8), number(6)));
    Ok(())
}

/// Calls by local day and hour in which a wrong zone would show: the last days, and those around changes of clocks.
fn clocks(transaction: &mut Transaction<'_>, source: &Resolved, out: &mut String) -> Result<(), Error> {
    let zone = literal(source.mapping.get("time_zone").unwrap_or("UTC"));
    let calls = sql::calls(source, source.mapping.expression("relation"), "true");
    let date = source.start.date("c.start", &zone);
    let changes = format!(
        "select d::date from generate_series(timestamp '2015-01-01', localtimestamp, interval '1 day') d
         where (d at time zone {zone}) + interval '24 hours' <> ((d + interval '1 day') at time zone {zone})"
    );
    let mut reader = Reader::new(transaction, &source.mapping)?;
    let rows = reader.rows(
        &format!(
            "with by_day as (select {date} as day, count(*) as calls, min(c.start)::text as first,
                                    max(c.start)::text as last from ({calls}) c group by 1),
                  changes as ({changes})
             select to_char(day, 'YYYY-MM-DD'), calls, first, last, day in (select * from changes)
             from by_day
             where day in (select day from by_day order by day desc limit 3)
                or exists (select from changes ch(day) where abs(ch.day - by_day.day) <= 1
                           and ch.day > (select max(day) from by_day) - 400)
             order by day"
        ),
        5,
    )?;
    reader.finish()?;
    for row in rows {
        let change = if row.get(4).and_then(Value::as_bool) == Some(true) { "; clocks change" } else { "" };
        let calls = number(&row, 1);
        line(
            out,
            &format!("  {}", text(&row, 0)),
            &format!("{calls} calls, from {} to {}{change}", text(&row, 2), text(&row, 3)),
        );
    }
    Ok(())
}

/// How many names were created.
pub fn names([companies, organizations, folders]: [u64; 3], out: &mut String) {
    let text = format!("{companies} companies, {organizations} organizations, {folders} folders");
    line(out, "new names", &text);
}

/// The plans and times of the worker's statement for the organization with the most calls, and advice about an index.
pub fn plans(transaction: &mut Transaction<'_>, found: &Found, out: &mut String) -> Result<(), Error> {
    transaction
        .batch_execute(&format!(
            "set local plan_cache_mode = force_generic_plan;
             prepare callstats_try (int, date, date, int, int, int) as {ADOPTED_ORGANIZATION_DAYS}"
        ))
        .map_err(failed)?;
    let measured = measure(transaction, &found.source, out);
    // It belongs to the session, which a pooler may give to somebody else.
    transaction.batch_execute("deallocate callstats_try").map_err(failed)?;
    measured?;
    advice(&advice::advice(transaction, found)?, out);
    Ok(())
}

/// What can make answers other than expected.
pub fn warnings(warnings: &[String], out: &mut String) {
    for warning in warnings {
        line(out, "WARNING", warning);
    }
}

/// Indexes that would be better than those that are there.
pub fn advice(statements: &[String], out: &mut String) {
    for statement in statements {
        line(out, "index", statement);
    }
}

fn measure(transaction: &mut Transaction<'_>, source: &Resolved, out: &mut String) -> Result<(), Error> {
    let calls = sql::calls(source, source.mapping.expression("relation"), "true");
    let date = source.start.date("a.start", "o.time_zone");
    let mut reader = Reader::new(transaction, &source.mapping)?;
    let rows = reader.rows(
        &format!(
            "select o.id, to_char(max({date}), 'YYYY-MM-DD') from ({calls}) a
             join callstats.company c on c.short_name = callstats.adopted_name(a.company)
             join callstats.organization o
               on o.company_id = c.id and o.short_name = callstats.adopted_name(a.organization)
             group by o.id order by count(*) desc limit 1"
        ),
        2,
    )?;
    let Some(row) = rows.first() else { return reader.finish() };
    let (organization, last) = (number(row, 0), text(row, 1));
    for (name, days) in [("a day", 0), ("a month", 29), ("a year", 364)] {
        let plan = reader.plan(&format!(
            "explain (analyze, format json) execute callstats_try
             ({organization}, date '{last}' - {days}, '{last}', null, null, null)"
        ))?;
        let milliseconds = plan.pointer("/0/Execution Time").and_then(Value::as_f64).unwrap_or_default();
        let mut scans = Vec::new();
        relations(&plan, &mut scans);
        let scans: Vec<String> = scans.into_iter().map(|(node, name)| format!("{node} of {name}")).collect();
        line(out, name, &format!("{milliseconds:.1} ms; {}", scans.join(", ")));
    }
    reader.finish()
}

/// The scans of the site's relations.
fn relations(plan: &Value, found: &mut Vec<(String, String)>) {
    let ours = ["company", "organization", "folder", "zone_day", "call", "call_daily"];
    match plan {
        Value::Array(plans) => plans.iter().for_each(|plan| relations(plan, found)),
        Value::Object(fields) => {
            let text = |key: &str| fields.get(key).and_then(|value| value.as_str());
            if let (Some(node), Some(relation)) = (text("Node Type"), text("Relation Name")) {
                let place = text("Index Name").map_or(relation.to_owned(), |index| format!("{relation} by {index}"));
                let scan = (node.to_owned(), place);
                if !ours.contains(&relation) && !found.contains(&scan) {
                    found.push(scan);
                }
            }
            fields.values().for_each(|field| relations(field, found));
        }
        _ => (),
    }
}

/// What stands behind the answers.
pub fn status(transaction: &mut Transaction<'_>, out: &mut String) -> Result<(), Error> {
    let row = transaction
        .query_typed_one(
            "select exists (select from callstats.call), to_regclass('callstats.call_daily') is not null,
                    pg_get_viewdef(to_regclass('callstats.call_source')) ~ 'callstats.call(_daily)?\\M'",
            &[],
        )
        .map_err(failed)?;
    let is = |at: usize| row.try_get::<_, Option<bool>>(at).map_err(failed).map(Option::unwrap_or_default);
    let loaded = match (is(0)?, is(1)?, is(2)?) {
        (_, _, false) => "callstats.call_source is a view of the site's own",
        (_, true, _) => "callstats.call, by the sums of the rollup",
        (true, false, _) => "callstats.call",
        (false, false, _) => "none",
    };
    line(out, "loaded calls", loaded);
    if !is_installed(transaction)? {
        line(out, "adopted tables", "none");
        return Ok(());
    }
    let rows = transaction
        .query_typed(
            "select name, to_char(added_at, 'YYYY-MM-DD HH24:MI:SS'),
                    extract(epoch from now() - synced_at)::bigint, left_out::text, mapping,
                    to_char(summed_from, 'YYYY-MM-DD') || ' to ' || to_char(summed_until - 1, 'YYYY-MM-DD'),
                    to_char(compared_since, 'YYYY-MM-DD HH24:MI:SS'), to_jsonb(s) ->> 'types',
                    coalesce(array(select jsonb_array_elements_text(to_jsonb(s) -> 'warnings')), '{}')
             from callstats.source s order by name",
            &[],
        )
        .map_err(failed)?;
    if rows.is_empty() {
        line(out, "adopted tables", "none");
    }
    let mut failure = None;
    for row in rows {
        let name: String = row.try_get(0).map_err(failed)?;
        let since: String = row.try_get(1).map_err(failed)?;
        let synced: Option<i64> = row.try_get(2).map_err(failed)?;
        let counts: Option<String> = row.try_get(3).map_err(failed)?;
        let text: String = row.try_get(4).map_err(failed)?;
        let mapping = crate::admin::adopt::mapping::Mapping::read(Some(&text), &[])?;
        let relation = mapping.expression("relation").to_owned();
        line(out, "adopted table", &format!("{name}: {relation}, on since {since}"));
        line(out, "  synchronized", &synced.map_or("never".into(), |seconds| format!("{seconds} s ago")));
        let summed: Option<String> = row.try_get(5).map_err(failed)?;
        let compared: Option<String> = row.try_get(6).map_err(failed)?;
        if let Some((summed, compared)) = summed.zip(compared) {
            line(out, "  summed", &format!("{summed}; the day compared longest ago: {compared}"));
        }
        let counts: Value = counts.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        for (reason, count) in counts.as_object().into_iter().flatten() {
            if count.as_i64().unwrap_or_default() > 0 {
                line(out, "  left out", &format!("{count} rows of the last days: {reason}"));
            }
        }
        let warnings: Vec<String> = row.try_get(8).map_err(failed)?;
        for warning in &warnings {
            line(out, "  WARNING", warning);
        }
        let types: Option<String> = row.try_get(7).map_err(failed)?;
        let types: Option<Value> = types.and_then(|text| serde_json::from_str(&text).ok());
        match look_up(&mut transaction.savepoint("fit").map_err(failed)?, mapping) {
            Err(error) => {
                line(out, "  FAIL", &error.message);
                failure = Some(Error::new(
                    "a mapping does not fit its table, and all answers are 503",
                    "correct it with `callstats adopt on`, or switch it off with `callstats adopt off`",
                ));
            }
            Ok(found) => {
                for change in types.iter().flat_map(|types| changes(types, &found.source.types())) {
                    line(out, "  FAIL", &change);
                    failure.get_or_insert_with(|| {
                        Error::new(
                            "a table changed its types, and all answers are 503",
                            "callstats adopt sync reads it by its new types; callstats-sync.timer runs it each minute",
                        )
                    });
                }
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// The types that are others than before.
fn changes(before: &Value, now: &Value) -> Vec<String> {
    let types = |of: &Value| of.as_object().cloned().unwrap_or_default();
    let (before, now) = (types(before), types(now));
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let name = |types: &serde_json::Map<String, Value>, key: &str| {
        types.get(key).and_then(Value::as_str).unwrap_or("a number").to_owned()
    };
    keys.into_iter()
        .filter(|key| before.get(*key) != now.get(*key))
        .map(|key| format!("{key} was read as {}, and is {} now", name(&before, key), name(&now, key)))
        .collect()
}

fn line(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "{name:<20}{}", shown(text)); // writing to a string cannot fail
}

/// Names of the site with control characters escaped, because the output is for terminals.
pub fn shown(text: &str) -> String {
    text.chars().map(escape).collect()
}
