//! The SQL of adopted tables, generated from resolved mappings. Pure. Its shape has two reasons:
//! the planner inlines callstats.calls_between() into the worker's statement, and no table of the site is pinned by it.

use crate::admin::adopt::types::{Resolved, literal};

const COMPANY: &str = "(select c.short_name from callstats.organization o \
                       join callstats.company c on c.id = o.company_id where o.id = $1)";
const ORGANIZATION: &str = "(select o.short_name from callstats.organization o where o.id = $1)";
/// Whether both names can be in the table as they are: neither stands for a missing, cut or cleaned name.
const IS_PLAIN: &str = "(select '(none)' not in (c.short_name, o.short_name) \
     and position('?' in c.short_name || o.short_name) = 0 \
     and greatest(length(c.short_name), length(o.short_name)) < 250 \
     from callstats.organization o join callstats.company c on c.id = o.company_id where o.id = $1)";

/// The rows of the relation with the mapping's names. The planner pulls it up, so that indexes of the table serve.
pub fn rows(source: &Resolved, relation: &str) -> String {
    let mapping = &source.mapping;
    let filter = mapping.get("filter").map(|filter| format!(" where ({filter})")).unwrap_or_default();
    format!("select {} from {relation}{filter}", columns(source))
}

fn columns(source: &Resolved) -> String {
    let expression = |key: &str| source.mapping.expression(key);
    format!(
        "({}) as call, ({}) as leg_order, ({}) as company, ({}) as organization, ({}) as folder, ({}) as agent, \
         ({}) as start, ({}) as duration",
        expression("call"),
        expression("leg_order"),
        expression("company"),
        expression("organization"),
        expression("folder"),
        expression("agent"),
        source.start_sql,
        source.duration_sql
    )
}

/// The view of the mapping's expressions that shows their types and the columns that they read.
pub fn probe(mapping: &crate::admin::adopt::mapping::Mapping) -> String {
    let columns: Vec<String> = ["call", "leg_order", "company", "organization", "folder", "agent", "start", "duration"]
        .iter()
        .map(|key| format!("({}) as {key}", mapping.expression(key)))
        .collect();
    let filter = mapping.get("filter").map(|filter| format!(" where ({filter})")).unwrap_or_default();
    format!(
        "create temporary view callstats_probe as select {} from {}{filter}",
        columns.join(", "),
        mapping.expression("relation")
    )
}

/// One row for each call that counts: company, organization, folder, agent, start, ms. Names are text.
/// The condition is one on `t.start`; a span around it if rows are folded.
pub fn calls(source: &Resolved, relation: &str, condition: &str) -> String {
    let ms = source.duration.milliseconds("t.duration");
    let valid = source.duration.is_countable("t.duration");
    let countable = source.start.is_countable("t.start");
    let rows = rows(source, relation);
    let text = |name: &crate::admin::adopt::types::Name, column: &str| name.text(column);
    let (company, organization) = (text(&source.company, "t.company"), text(&source.organization, "t.organization"));
    let (folder, agent) = (text(&source.folder, "t.folder"), text(&source.agent, "t.agent"));
    if source.mapping.get("call").is_none() {
        return format!(
            "select {company} as company, {organization} as organization, {folder} as folder, \
             nullif({agent}, '') as agent, t.start, {ms} as ms, 1 as legs \
             from ({rows}) t where {condition} and {countable} and {valid}"
        );
    }
    // The agent is that of the longest leg that has one, and so is the duration.
    let first = "order by t.leg_order, t.start, t.ms desc, t.folder";
    format!(
        "select (array_agg(t.company {first}))[1] as company, (array_agg(t.organization {first}))[1] as organization, \
         (array_agg(t.folder {first}))[1] as folder, \
         (array_agg(t.agent order by t.agent is null, t.ms desc, t.start, t.agent))[1] as agent, \
         min(t.start) as start, coalesce(max(t.ms) filter (where t.agent is not null), max(t.ms)) as ms, \
         count(*) as legs \
         from (select nullif(t.call::text, '') as call, t.leg_order, {company} as company, \
               {organization} as organization, {folder} as folder, nullif({agent}, '') as agent, t.start, {ms} as ms, \
               row_number() over () as number \
               from ({rows}) t where {condition} and {countable} and {valid}) t \
         group by coalesce(t.call, 'row ' || t.number)"
    )
}

/// The branch of callstats.calls_between() for one mapping: a day at a time, so that the rows of a range stream. The
/// scalar sub-selects keep the order of the days, and `offset 0` keeps the day's rows apart.
fn branch(source: &Resolved, relation: &str) -> String {
    let on_day = source.start.on_day("t.start", None);
    let groups = if source.mapping.get("call").is_some() {
        let span = format!("interval {}", literal(source.mapping.get("span").unwrap_or("4 hours")));
        let calls = calls(source, relation, &source.start.on_day("t.start", Some(&span)));
        format!(
            "select t.folder, t.agent, count(*) as calls, sum(t.ms)::bigint as duration_ms from ({calls}) t \
             where callstats.adopted_name(t.company) = {COMPANY} \
             and callstats.adopted_name(t.organization) = {ORGANIZATION} and {on_day} group by 1, 2"
        )
    } else {
        let rows = rows(source, relation);
        let group = |condition: String| {
            format!(
                "select {} as folder, nullif({}, '') as agent, count(*) as calls, sum({})::bigint as duration_ms \
                 from ({rows}) t where {condition} and {on_day} and {} group by 1, 2",
                source.folder.text("t.folder"),
                source.agent.text("t.agent"),
                source.duration.milliseconds("t.duration"),
                source.duration.is_countable("t.duration")
            )
        };
        let plain = group(format!(
            "{IS_PLAIN} and {} and {}",
            source.company.equals("t.company", COMPANY),
            source.organization.equals("t.organization", ORGANIZATION)
        ));
        let other = group(format!(
            "not {IS_PLAIN} and callstats.adopted_name({}) = {COMPANY} and callstats.adopted_name({}) = {ORGANIZATION}",
            source.company.text("t.company"),
            source.organization.text("t.organization")
        ));
        format!("{plain} union all {other}")
    };
    format!(
        "select $1, z.callstats_date, x.folder_id, x.agent, x.calls, x.duration_ms\n\
         from callstats.zone_day z \
         (callstats_zone, callstats_date, callstats_starts, callstats_ends, callstats_is_whole)\n\
         cross join lateral (\n\
         select f.id as folder_id, a.agent, a.calls, a.duration_ms from ({groups}) a\n\
         join callstats.folder f on f.organization_id = $1 and f.name = callstats.adopted_name(a.folder)\n\
         offset 0) x\n\
         where z.callstats_zone = (select o.time_zone from callstats.organization o where o.id = $1) \
         and z.callstats_date between $2 and $3"
    )
}

/// The same for a table whose start has no index: one pass over it, instead of one for each day.
fn scan(source: &Resolved, relation: &str) -> String {
    let zone = "(select o.time_zone from callstats.organization o where o.id = $1)";
    let date = source.start.date("t.start", zone);
    let span = format!("interval {}", literal(source.mapping.get("span").unwrap_or("4 hours")));
    let near = source.start.date("t.start", "'UTC'");
    let near = format!("{near} >= $2 - interval '2 days' - {span} and {near} <= $3 + interval '2 days' + {span}");
    let calls = calls(source, relation, &near);
    format!(
        "select $1, a.day, f.id, a.agent, a.calls, a.duration_ms from (\n\
         select {date} as day, t.folder, t.agent, count(*) as calls, sum(t.ms)::bigint as duration_ms\n\
         from ({calls}) t\n\
         where callstats.adopted_name(t.company) = {COMPANY}\n\
         and callstats.adopted_name(t.organization) = {ORGANIZATION} and {date} between $2 and $3 group by 1, 2, 3) a\n\
         join callstats.folder f on f.organization_id = $1 and f.name = callstats.adopted_name(a.folder)"
    )
}

/// callstats.calls_between() over callstats.call_source and the mappings, and who may run it. Its parameters have no
/// names: an expression whose column was dropped must fail, and not read a parameter.
///
/// With each mapping comes whether an index of its start serves.
pub fn calls_between(sources: &[(Resolved, bool)]) -> String {
    let mut body = String::from(
        "select $1, s.call_date, s.folder_id::int, s.agent_id collate \"C\", sum(s.calls)::bigint, \
         sum(s.duration_ms)::bigint\nfrom callstats.call_source s\n\
         where s.organization_id = $1 and s.call_date between $2 and $3 and s.folder_id is not null\n\
         and s.calls between -9223372036854775807 and 9223372036854775807\n\
         and s.duration_ms between -9223372036854775807 and 9223372036854775807\n\
         group by 2, 3, 4\n\
         having sum(s.calls) between -9223372036854775807 and 9223372036854775807\n\
         and sum(s.duration_ms) between -9223372036854775807 and 9223372036854775807",
    );
    for (source, is_indexed) in sources {
        let relation = source.mapping.expression("relation");
        body.push_str("\nunion all\n");
        body.push_str(&if *is_indexed { branch(source, relation) } else { scan(source, relation) });
    }
    function("callstats.calls_between", &body)
        + "revoke execute on function callstats.calls_between(int, date, date) from public;\n\
           grant execute on function callstats.calls_between(int, date, date) to callstats_worker;\n"
}

/// One mapping alone, over another relation: what index advice is tried on.
pub fn trial(source: &Resolved, relation: &str) -> String {
    function("pg_temp.callstats_trial", &branch(source, relation))
}

fn function(name: &str, body: &str) -> String {
    let mut quote = String::from("$callstats$");
    while body.contains(&quote) {
        quote.insert(1, 'x');
    }
    format!(
        "create or replace function {name}(int, date, date)\n\
         returns table (organization_id int, call_date date, folder_id int, agent_id text, calls bigint, \
         duration_ms bigint)\nlanguage sql stable parallel safe as {quote}\n{body}\n{quote};\n"
    )
}

/// The distinct names of the calls.
pub fn names(source: &Resolved, condition: &str) -> String {
    let calls = calls(source, source.mapping.expression("relation"), condition);
    format!(
        "select distinct callstats.adopted_name(a.company), callstats.adopted_name(a.organization), \
         callstats.adopted_name(a.folder) from ({calls}) a"
    )
}

/// Notes those names, as three arrays.
pub const NOTE_NAMES: [&str; 3] = [
    "drop table if exists pg_temp.callstats_names",
    "create temporary table callstats_names (company text collate \"C\", organization text collate \"C\", \
     folder text collate \"C\") on commit drop",
    "insert into pg_temp.callstats_names select * from unnest($1::text[], $2::text[], $3::text[])",
];

/// Whether one of them is of an organization that does not exist.
pub const HAS_NEW_ORGANIZATION: &str = "select exists (select from pg_temp.callstats_names n where not exists (
     select from callstats.organization o join callstats.company c on c.id = o.company_id
     where c.short_name = n.company and o.short_name = n.organization))";

/// Creates the companies, organizations and folders that are named there; each returns how many. The zone of new
/// organizations is $1.
pub const CREATE_NAMES: [&str; 3] = [
    "insert into callstats.company (short_name) select distinct company from pg_temp.callstats_names n \
     where not exists (select from callstats.company c where c.short_name = n.company) on conflict do nothing",
    "insert into callstats.organization (company_id, short_name, time_zone) select distinct c.id, n.organization, $1 \
     from pg_temp.callstats_names n join callstats.company c on c.short_name = n.company \
     where not exists (select from callstats.organization o \
     where o.company_id = c.id and o.short_name = n.organization) on conflict do nothing",
    "insert into callstats.folder (organization_id, name) select distinct o.id, n.folder \
     from pg_temp.callstats_names n join callstats.company c on c.short_name = n.company \
     join callstats.organization o on o.company_id = c.id and o.short_name = n.organization \
     where not exists (select from callstats.folder f where f.organization_id = o.id and f.name = n.folder) \
     on conflict do nothing",
];

/// Rows by what becomes of them: one row of counts, in the order of [`REASONS`], then rows in all.
pub fn left_out(source: &Resolved, condition: &str) -> String {
    let mapping = &source.mapping;
    let rest: String = source.start.is_countable("t.start");
    let duration = source.duration;
    let all = format!(
        "select {}, ({}) as is_kept from {}",
        columns(source),
        mapping.get("filter").unwrap_or("true"),
        mapping.expression("relation")
    );
    format!(
        "select count(*) filter (where is_kept is not true), \
         count(*) filter (where is_kept and t.start is null), \
         count(*) filter (where is_kept and not ({rest})), \
         count(*) filter (where is_kept and {rest} and t.duration is null), \
         count(*) filter (where is_kept and {rest} and t.duration < {}), \
         count(*) filter (where is_kept and {rest} and t.duration >= {} and not ({})), \
         count(*) from ({all}) t where {condition}",
        duration.zero(),
        duration.zero(),
        duration.is_countable("t.duration")
    )
}

/// Why a row does not count.
pub const REASONS: [&str; 6] = [
    "the filter leaves it out",
    "no start",
    "start before 1970 or after 2100, or infinite",
    "no duration, or text that is none",
    "negative duration",
    "duration is not a number, infinite or above 24 days",
];
