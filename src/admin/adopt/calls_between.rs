//! callstats.calls_between(), which the worker reads while a mapping is on, generated from resolved mappings. Pure. Its
//! shape has two reasons: the planner inlines it into the worker's statement, and no table of the site is pinned by it.

use crate::admin::adopt::sql::{calls, near, rows, span};
use crate::admin::adopt::types::{Duration, Resolved, literal};
use crate::database::ORGANIZATION_DAYS;

const COMPANY: &str = "(select c.short_name from callstats.organization o \
                       join callstats.company c on c.id = o.company_id where o.id = $1)";
const ORGANIZATION: &str = "(select o.short_name from callstats.organization o where o.id = $1)";
/// The folder of a name `a.folder`, given that of exactly this name as `f`. Cleaning a name costs more than a join.
const FOLDER_ID: &str = "coalesce(f.id, (select g.id from callstats.folder g \
     where g.organization_id = $1 and g.name = callstats.adopted_name(a.folder)))";
/// Whether both names of organization $1 can be in the table as they are: neither stands for a missing, cut or cleaned
/// name.
const IS_PLAIN: &str = "(select '(none)' not in (c.short_name, o.short_name) \
     and position('?' in c.short_name || o.short_name) = 0 \
     and greatest(length(c.short_name), length(o.short_name)) < 250 \
     from callstats.organization o join callstats.company c on c.id = o.company_id where o.id = $1)";
/// Whether there is an organization of which this does not hold.
pub const HAS_ODD_NAMES: &str = "select exists (select from callstats.organization o \
     join callstats.company c on c.id = o.company_id \
     where '(none)' in (c.short_name, o.short_name) or position('?' in c.short_name || o.short_name) > 0 \
     or greatest(length(c.short_name), length(o.short_name)) >= 250)";

/// The days of a mapping that callstats.source_day answers: first, and first after the last.
fn summed(source: &Resolved) -> Option<(String, String)> {
    source.mapping.get("horizon")?;
    let name = literal(source.mapping.name());
    Some((
        format!("(select coalesce(s.summed_from, 'infinity') from callstats.source s where s.name = {name})"),
        format!("(select coalesce(s.summed_until, '-infinity') from callstats.source s where s.name = {name})"),
    ))
}

/// The condition that a date is read row by row, to follow others.
fn is_live(source: &Resolved, date: &str) -> String {
    summed(source).map(|(from, until)| format!(" and not ({date} >= {from} and {date} < {until})")).unwrap_or_default()
}

/// The sum of the milliseconds of rows that can be counted, each rounded for itself. Most numbers have no more than
/// three decimals, and to add those up costs a quarter of rounding them.
fn sum_of_milliseconds(source: &Resolved) -> String {
    match source.duration {
        Duration::Seconds { is_whole: true } => "(sum(t.duration) * 1000)::bigint".to_owned(),
        Duration::Seconds { is_whole: false } => "(sum(case when scale(t.duration::numeric) <= 3 \
             then t.duration::numeric else round(t.duration::numeric, 3) end) * 1000)::bigint"
            .to_owned(),
        other => format!("sum({})::bigint", other.milliseconds("t.duration")),
    }
}

/// The branch of callstats.calls_between() for one mapping: a day at a time, so that the rows of a range stream. The
/// scalar sub-selects keep the order of the days, `offset 0` keeps the day's rows apart, and the `order by` says that
/// nothing has to be sorted for the days: servers before 18 would sort the whole range to merge it with others.
fn branch(source: &Resolved, relation: &str, has_odd_names: bool) -> String {
    let on_day = source.start.on_day("t.start", None);
    let groups = if source.mapping.get("call").is_some() {
        let calls = calls(source, relation, &source.start.on_day("t.start", span(source).as_deref()));
        format!(
            "select t.folder, t.agent, count(*) as calls, sum(t.ms)::bigint as duration_ms from ({calls}) t \
             where callstats.adopted_name(t.company) = {COMPANY} \
             and callstats.adopted_name(t.organization) = {ORGANIZATION} and {on_day} group by 1, 2"
        )
    } else {
        let rows = rows(source, relation);
        let group = |condition: String| {
            format!(
                "select {} as folder, {} as agent, count(*) as calls, {} as duration_ms \
                 from ({rows}) t where {condition} and {on_day} and case when {} then true end group by 1, 2",
                source.folder.text("t.folder"),
                source.agent.text("t.agent"),
                sum_of_milliseconds(source),
                source.duration.is_countable("t.duration")
            )
        };
        let equal = format!(
            "{} and {}",
            source.company.equals("t.company", COMPANY),
            source.organization.equals("t.organization", ORGANIZATION)
        );
        if has_odd_names {
            let plain = group(format!("{IS_PLAIN} and {equal}"));
            let other = group(format!(
                "not {IS_PLAIN} and callstats.adopted_name({}) = {COMPANY} \
                 and callstats.adopted_name({}) = {ORGANIZATION}",
                source.company.text("t.company"),
                source.organization.text("t.organization")
            ));
            format!("{plain} union all {other}")
        } else {
            group(equal)
        }
    };
    format!(
        "(select $1, z.callstats_date, x.folder_id, nullif(x.agent, ''), x.calls, x.duration_ms\n\
         from callstats.zone_day z \
         (callstats_zone, callstats_date, callstats_starts, callstats_ends, callstats_is_whole)\n\
         cross join lateral (\n\
         select {FOLDER_ID} as folder_id, a.agent, a.calls, a.duration_ms from ({groups}) a\n\
         left join callstats.folder f on f.organization_id = $1 and f.name = a.folder\n\
         offset 0) x\n\
         where z.callstats_zone = (select o.time_zone from callstats.organization o where o.id = $1) \
         and z.callstats_date between $2 and $3 and x.folder_id is not null{}\n\
         order by 2)",
        is_live(source, "z.callstats_date")
    )
}

/// The same for a table whose start has no index, and for one of a foreign server: one pass over the range, instead of
/// one for each day.
fn scan(source: &Resolved, relation: &str) -> String {
    let zone = "(select o.time_zone from callstats.organization o where o.id = $1)";
    let date = source.start.date("t.start", zone);
    let calls = calls(source, relation, &near(source, "$2", "$3"));
    format!(
        "select $1, a.day, f.id, a.agent, a.calls, a.duration_ms from (\n\
         select {date} as day, t.folder, t.agent, count(*) as calls, sum(t.ms)::bigint as duration_ms\n\
         from ({calls}) t\n\
         where callstats.adopted_name(t.company) = {COMPANY}\n\
         and callstats.adopted_name(t.organization) = {ORGANIZATION}\n\
         and {date} between $2 and $3{} group by 1, 2, 3) a\n\
         join callstats.folder f on f.organization_id = $1 and f.name = callstats.adopted_name(a.folder)",
        is_live(source, &date)
    )
}

/// callstats.calls_between() over callstats.call_source and the mappings, and who may run it. Its parameters have no
/// names: an expression whose column was dropped must fail, and not read a parameter.
///
/// With each mapping comes whether an index of its start serves. The rows of odd names need a branch of their own,
/// which costs all others time.
pub fn calls_between(sources: &[(Resolved, bool)], has_odd_names: bool) -> String {
    // What counts of call_source is the same with and without mappings.
    let mut body = format!("select $1, s.* from (\n{ORGANIZATION_DAYS}\n) s");
    if sources.iter().any(|(source, _)| source.mapping.get("horizon").is_some()) {
        body.push_str(
            "\nunion all\nselect $1, d.call_date, d.folder_id, d.agent_id, d.calls, d.duration_ms\n\
             from callstats.source_day d where d.organization_id = $1 and d.call_date between $2 and $3",
        );
    }
    for (source, is_indexed) in sources {
        let relation = source.mapping.expression("relation");
        body.push_str("\nunion all\n");
        body.push_str(&if *is_indexed { branch(source, relation, has_odd_names) } else { scan(source, relation) });
    }
    function("callstats.calls_between", &body)
        + "revoke execute on function callstats.calls_between(int, date, date) from public;\n\
           grant execute on function callstats.calls_between(int, date, date) to callstats_worker;\n"
}

/// One mapping alone, over another relation: what index advice is tried on.
pub fn trial(source: &Resolved, relation: &str) -> String {
    function("pg_temp.callstats_trial", &branch(source, relation, false))
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
