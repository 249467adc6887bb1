//! Statements over the rows of adopted tables, generated from resolved mappings: calls, the groups of days, names, and
//! what is left out. Pure.

use crate::admin::adopt::types::{Expected, Resolved, literal};

/// The rows of the relation with the mapping's names, as long as its expressions have the types that they are read by.
/// The planner pulls it up, so that indexes of the table serve.
pub fn rows(source: &Resolved, relation: &str) -> String {
    let filter = source.mapping.get("filter").map(|filter| format!("({filter})"));
    let conditions: Vec<String> = source.expected.iter().map(Expected::condition).chain(filter).collect();
    let conditions = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" and ") };
    format!("select {} from {relation} where {conditions}", columns(source))
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
        .chain(mapping.get("changed").map(|changed| format!("({changed}) as changed")))
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

/// The span around a day in which the rows of its calls are, if rows are folded.
pub fn span(source: &Resolved) -> Option<String> {
    source.mapping.get("call").map(|_| format!("interval {}", literal(source.mapping.get("span").unwrap_or("4 hours"))))
}

/// Calls by their names and by their date in a zone, from one day up to another, in the columns of [`GROUP_COLUMNS`].
/// One pass over the rows; what is left is small.
pub fn day_groups(source: &Resolved, zone: &str, first: &str, last: &str) -> String {
    let calls = calls(source, source.mapping.expression("relation"), &near(source, first, last));
    let zone = literal(zone);
    let date = source.start.date("t.start", &zone);
    format!(
        "select callstats.adopted_name(g.company)::text, callstats.adopted_name(g.organization)::text, \
         callstats.adopted_name(g.folder)::text, g.agent::text, g.call_date, g.calls, g.duration_ms \
         from (select t.company, t.organization, t.folder, t.agent, {date} as call_date, \
         count(*) as calls, sum(t.ms)::bigint as duration_ms \
         from ({calls}) t where {date} between {first} and {last} group by 1, 2, 3, 4, 5) g"
    )
}

pub const GROUP_COLUMNS: &str =
    "company text, organization text, folder text, agent text, call_date date, calls bigint, duration_ms bigint";

/// The table for those groups, each with the zone of its date.
pub const CREATE_GROUPS: &str = "
    drop table if exists pg_temp.callstats_groups;
    create temporary table callstats_groups (time_zone text, company text collate \"C\",
        organization text collate \"C\", folder text collate \"C\", agent text collate \"C\", call_date date,
        calls bigint, duration_ms bigint) on commit drop";

/// Notes them, as eight arrays.
pub const NOTE_GROUPS: &str = "
    insert into pg_temp.callstats_groups
    select time_zone, company, organization, folder, agent, call_date, calls, duration_ms
    from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::date[], $7::bigint[], $8::bigint[])
    as g (time_zone, company, organization, folder, agent, call_date, calls, duration_ms)";

/// Those groups in the columns of callstats.source_day, in the order of its index. The names must exist.
pub fn day_sums(source: &Resolved) -> String {
    let zone = if source.start.depends_on_zone() { "and o.time_zone = t.time_zone" } else { "" };
    format!(
        "select o.id as organization_id, t.call_date, f.id as folder_id, t.agent collate \"C\" as agent_id, \
         s.id as source_id, sum(t.calls)::bigint as calls, sum(t.duration_ms)::bigint as duration_ms \
         from pg_temp.callstats_groups t \
         join callstats.source s on s.name = {} \
         join callstats.company c on c.short_name = t.company \
         join callstats.organization o on o.company_id = c.id and o.short_name = t.organization {zone} \
         join callstats.folder f on f.organization_id = o.id and f.name = t.folder \
         group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4",
        literal(source.mapping.name())
    )
}

/// The condition on `t.start` of the rows that calls from one day up to another can have.
pub fn near(source: &Resolved, first: &str, last: &str) -> String {
    source.start.between("t.start", first, last, span(source).as_deref())
}

/// The first day on which a row starts that can count, in UTC.
pub fn first_day(source: &Resolved) -> String {
    let first = source.start.date("min(t.start)", "'UTC'");
    format!(
        "select {first} from ({}) t where {}",
        rows(source, source.mapping.expression("relation")),
        source.start.is_countable("t.start")
    )
}

/// The days in UTC of rows that changed since an instant, by the minute in which they were: the minute, and what is
/// another one whenever a row joins them or is changed again.
pub fn changed_days(source: &Resolved, since: &str) -> Option<String> {
    let since = literal(since);
    let changed = source.mapping.get("changed")?;
    let filter = source.mapping.get("filter").map(|filter| format!(" and ({filter})")).unwrap_or_default();
    let start = source.start.date("t.start", "'UTC'");
    Some(format!(
        "select {start}, to_char(t.changed at time zone 'UTC', 'YYYY-MM-DD HH24:MI') || 'Z', \
         count(*) || ' ' || sum(extract(epoch from t.changed)::numeric) \
         from (select {}, ({changed}) as changed from {} \
         where ({changed}) >= {since}::timestamptz and ({changed}) < 'infinity'{filter}) t where {} group by 1, 2",
        columns(source),
        source.mapping.expression("relation"),
        source.start.is_countable("t.start")
    ))
}

/// The distinct names of the calls.
pub fn names(source: &Resolved, condition: &str) -> String {
    let calls = calls(source, source.mapping.expression("relation"), condition);
    format!(
        "select distinct callstats.adopted_name(a.company), callstats.adopted_name(a.organization), \
         callstats.adopted_name(a.folder) from (select distinct company, organization, folder from ({calls}) c) a"
    )
}

/// The distinct companies and organizations of the calls.
pub fn organizations(source: &Resolved, condition: &str) -> String {
    let calls = calls(source, source.mapping.expression("relation"), condition);
    format!(
        "select distinct callstats.adopted_name(a.company), callstats.adopted_name(a.organization) \
         from (select distinct company, organization from ({calls}) c) a"
    )
}

/// The zones of organizations $2 of companies $1; $3 is that of those that do not exist yet.
pub const ZONES_OF_ORGANIZATIONS: &str = "
    select distinct coalesce(o.time_zone, $3) from unnest($1::text[], $2::text[]) as n (company, organization)
    left join callstats.company c on c.short_name = n.company
    left join callstats.organization o on o.company_id = c.id and o.short_name = n.organization
    where coalesce(o.time_zone, $3) is not null";

/// The table for those names.
pub const CREATE_NAMES_TABLE: &str = "
    drop table if exists pg_temp.callstats_names;
    create temporary table callstats_names (company text collate \"C\", organization text collate \"C\",
        folder text collate \"C\") on commit drop";

/// Notes them, as three arrays.
pub const NOTE_NAMES: &str =
    "insert into pg_temp.callstats_names select * from unnest($1::text[], $2::text[], $3::text[])";

/// Notes those of the groups.
pub const NOTE_NAMES_OF_GROUPS: &str = "insert into pg_temp.callstats_names \
     select distinct company, organization, folder from pg_temp.callstats_groups";

/// Locks the folders of those names against being deleted.
pub const LOCK_NOTED_FOLDERS: &str = "select from callstats.folder where id in (
     select f.id from pg_temp.callstats_names n join callstats.company c on c.short_name = n.company
     join callstats.organization o on o.company_id = c.id and o.short_name = n.organization
     join callstats.folder f on f.organization_id = o.id and f.name = n.folder) for key share";

/// Whether one of them is of an organization that does not exist.
pub const HAS_NEW_ORGANIZATION: &str = "select exists (select from pg_temp.callstats_names n where not exists (
     select from callstats.organization o join callstats.company c on c.id = o.company_id
     where c.short_name = n.company and o.short_name = n.organization))";

/// Moves the sequences of ids behind those that a site has chosen by itself.
pub const SKIP_TAKEN_IDS: &str = "
    select setval(pg_get_serial_sequence(name, 'id'), taken)
    from (select 'callstats.company', max(id) from callstats.company
          union all select 'callstats.organization', max(id) from callstats.organization
          union all select 'callstats.folder', max(id) from callstats.folder) t (name, taken)
    where taken > coalesce(pg_sequence_last_value(pg_get_serial_sequence(name, 'id')::regclass), 0)";

/// Creates the companies, organizations and folders that are named there; each returns how many. The zone of new
/// organizations is $1.
pub const CREATE_NAMES: [&str; 3] = [
    "insert into callstats.company (short_name) select distinct company from pg_temp.callstats_names n \
     where not exists (select from callstats.company c where c.short_name = n.company) \
     on conflict (short_name) do nothing",
    "insert into callstats.organization (company_id, short_name, time_zone) select distinct c.id, n.organization, $1 \
     from pg_temp.callstats_names n join callstats.company c on c.short_name = n.company \
     where not exists (select from callstats.organization o \
     where o.company_id = c.id and o.short_name = n.organization) on conflict (company_id, short_name) do nothing",
    "insert into callstats.folder (organization_id, name) select distinct o.id, n.folder \
     from pg_temp.callstats_names n join callstats.company c on c.short_name = n.company \
     join callstats.organization o on o.company_id = c.id and o.short_name = n.organization \
     where not exists (select from callstats.folder f where f.organization_id = o.id and f.name = n.folder) \
     on conflict (organization_id, name) do nothing",
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
