//! What must be right in the database, each a function over a connection of the worker's role. Touches the database,
//! reading only.

use crate::admin::adopt::READS_DAYS;
use crate::admin::check::result::{Problem, Verdict};
use crate::admin::installed;
use crate::admin::schema::VERSION as SCHEMA_VERSION;
use crate::database::{ADOPTED_ORGANIZATION_DAYS, ORGANIZATION_DAYS, describe};
use postgres::error::SqlState;
use postgres::types::{ToSql, Type};
use postgres::{Client, SimpleQueryMessage};
use std::time::Instant;

const PRIVILEGES: &str = include_str!("../sql/privileges.sql");
const REMAINING_PRIVILEGES: &str = include_str!("../sql/remaining_privileges.sql");
const ROLE_SETTINGS: &str = include_str!("../sql/role_settings.sql");
const TIME_ZONES: &str = include_str!("../sql/time_zones.sql");
const ADOPTED_TABLES: &str = include_str!("../sql/adopted_tables.sql");
const LEFT_OUT_ROWS: &str = include_str!("../sql/left_out_rows.sql");

type Check = fn(&mut Client) -> Result<Verdict, postgres::Error>;

/// All that apply to this database, in their order.
pub fn all(client: &mut Client) -> Vec<(&'static str, Verdict)> {
    let mut checks: Vec<(&str, Check)> = vec![("database", database), ("schema", schema)];
    if schema_exists(client) {
        checks.extend([
            ("privileges", privileges as Check),
            ("index", index as Check),
            ("time zones", time_zones as Check),
        ]);
        if is_adopted(client) {
            checks.push(("adopted tables", adopted_tables));
        }
        if has_partitions(client) {
            checks.push(("partitions", partitions));
        }
        if !has_shipped_source(client) {
            checks.push(("rows", rows));
        }
    }
    let run = |(name, check): (&'static str, Check)| {
        let verdict = check(client)
            .unwrap_or_else(|error| Verdict::fail(describe(&error), "look for the cause in the PostgreSQL log"));
        (name, verdict)
    };
    checks.into_iter().map(run).collect()
}

fn database(client: &mut Client) -> Result<Verdict, postgres::Error> {
    let started = Instant::now();
    let row = client
        .query_typed_one("select current_setting('server_version_num')::int, current_setting('server_version')", &[])?;
    let milliseconds = started.elapsed().as_secs_f64() * 1000.0;
    let (number, version): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(if number >= 130_000 {
        Verdict::Pass(format!("PostgreSQL {version}, a round trip takes {milliseconds:.1} ms"))
    } else {
        Verdict::fail(format!("PostgreSQL {version} is too old"), "upgrade it to 13 or newer")
    })
}

fn schema_exists(client: &mut Client) -> bool {
    let found = client.query_typed_one("select to_regclass('callstats.schema_version') is not null", &[]);
    found.and_then(|row| row.try_get(0)).unwrap_or(false)
}

fn schema(client: &mut Client) -> Result<Verdict, postgres::Error> {
    let fix = installed::psql("schema.sql");
    if !schema_exists(client) {
        return Ok(Verdict::fail("the schema callstats does not exist", fix));
    }
    let version: Option<i32> =
        client.query_typed_one("select max(version) from callstats.schema_version", &[])?.try_get(0)?;
    Ok(match version {
        Some(SCHEMA_VERSION) => Verdict::Pass(format!("version {SCHEMA_VERSION}")),
        Some(newer) if newer > SCHEMA_VERSION => Verdict::fail(
            format!("version {newer} is newer than this executable, which knows {SCHEMA_VERSION}"),
            "upgrade callstats",
        ),
        // The worker still answers, but companies have one token each.
        Some(1) => Verdict::warn("version 1 is older than 2", "callstats schema install, as the owner of the schema"),
        older => Verdict::fail(format!("version {} is older than {SCHEMA_VERSION}", older.unwrap_or(0)), fix),
    })
}

/// Neither missing nor too many. What PostgreSQL grants to everybody is worth a warning, as is a role without limits.
fn privileges(client: &mut Client) -> Result<Verdict, postgres::Error> {
    let user: String = client.query_typed_one("select current_user::text", &[])?.try_get(0)?;
    let (mut problems, mut warnings) = (Problems::default(), Problems::default());
    for row in client.query_typed(PRIVILEGES, &[])? {
        problems.push(row.try_get(0)?, row.try_get(1)?);
    }
    for row in client.query_typed(REMAINING_PRIVILEGES, &[])? {
        let problems = if row.try_get(2)? { &mut warnings } else { &mut problems };
        problems.push(row.try_get(0)?, row.try_get(1)?);
    }
    for row in client.query_typed(ROLE_SETTINGS, &[])? {
        warnings.push(row.try_get(0)?, row.try_get(1)?);
    }
    Ok(if !problems.messages.is_empty() {
        Verdict::Fail(problems.of(&user))
    } else if !warnings.messages.is_empty() {
        Verdict::Warn(warnings.of(&user))
    } else {
        Verdict::Pass(format!("{user} can read all that it needs, and do nothing else"))
    })
}

#[derive(Default)]
struct Problems {
    messages: Vec<String>,
    fixes: Vec<String>,
}

impl Problems {
    fn push(&mut self, message: String, fix: String) {
        self.messages.push(message);
        self.fixes.push(fix);
    }

    fn of(&self, user: &str) -> Problem {
        Problem { message: format!("{user} {}", self.messages.join(", ")), fix: self.fixes.join("; ") }
    }
}

/// Rows that answers leave out, of a site's own call_source: the shipped ones have none.
fn rows(client: &mut Client) -> Result<Verdict, postgres::Error> {
    let mut transaction = client.transaction()?;
    transaction.batch_execute("set local statement_timeout = '10s'")?;
    let rows = match transaction.query_typed(LEFT_OUT_ROWS, &[]) {
        Ok(rows) => rows,
        Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
            return Ok(Verdict::Pass("there are too many to look at within 10 s".into()));
        }
        Err(error) => return Err(error),
    };
    let mut counts = Vec::new();
    for row in &rows {
        let (organization, count): (Option<i32>, i64) = (row.try_get("organization_id")?, row.try_get("left_out")?);
        let reason: String = row.try_get("reason")?;
        let organization = organization.map_or("no organization".into(), |id| format!("organization {id}"));
        counts.push(format!("{count} of {organization} ({reason})"));
    }
    Ok(if counts.is_empty() {
        Verdict::Pass("every row of callstats.call_source can be counted".into())
    } else {
        Verdict::warn(
            format!("answers leave out rows of callstats.call_source: {}", counts.join(", ")),
            "correct the view, or the rows behind it",
        )
    })
}

/// Whether rows arrive in the order of their groups as they are read. PostgreSQL would rather read and sort all of a
/// small table, so it is asked for the plan that a large one would have.
fn index(client: &mut Client) -> Result<Verdict, postgres::Error> {
    let mut transaction = client.transaction()?;
    transaction.batch_execute(
        "set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_hashagg = off;
         set local max_parallel_workers_per_gather = 0;
         select pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true)
         where pg_catalog.current_setting('plan_cache_mode') = 'auto'",
    )?;
    transaction.batch_execute(&format!("prepare callstats_check (int, date, date) as {ORGANIZATION_DAYS}"))?;
    let organization: i32 =
        transaction.query_typed_one("select coalesce(min(id), 0) from callstats.organization", &[])?.try_get(0)?;
    let explain = format!(
        "explain (costs off, format json) execute callstats_check ({organization}, '2000-01-01', '2000-12-31')"
    );
    let plan = transaction.simple_query(&explain)?.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).and_then(|text| serde_json::from_str(text).ok()),
        _ => None,
    });
    transaction.batch_execute("deallocate callstats_check")?;
    let mut nodes = Vec::new();
    node_types(&plan.unwrap_or_default(), &mut nodes);
    let has = |types: &[&str]| nodes.iter().any(|node| types.contains(&node.as_str()));
    if has(&["Foreign Scan"]) {
        let mode: String = transaction.query_typed_one("select current_setting('plan_cache_mode')", &[])?.try_get(0)?;
        return Ok(if mode == "force_custom_plan" {
            Verdict::Pass(
                "shards are behind callstats.call_source, and each statement is planned for its own; one that names no \
                 organization_id counts a call once for each organization of its shard"
                    .into(),
            )
        } else {
            Verdict::fail(
                "the shards behind callstats.call_source send all calls of a range rather than their sums",
                "add options='-c plan_cache_mode=force_custom_plan' to DATABASE_URL",
            )
        });
    }
    Ok(if has(&["Sort", "Incremental Sort", "Seq Scan"]) {
        Verdict::fail(
            "no index matches the grouping order of callstats.call_source, so every call in the range is read and \
             sorted",
            "create index on TABLE (organization_id, call_date, folder_id, agent_id collate \"C\") include \
             (duration_ms)",
        )
    } else {
        Verdict::Pass("an index has the grouping order of callstats.call_source".into())
    })
}

/// The type of each node of a plan.
fn node_types(plan: &serde_json::Value, nodes: &mut Vec<String>) {
    match plan {
        serde_json::Value::Array(plans) => plans.iter().for_each(|plan| node_types(plan, nodes)),
        serde_json::Value::Object(fields) => {
            nodes.extend(fields.get("Node Type").and_then(|node| node.as_str()).map(str::to_owned));
            fields.values().for_each(|field| node_types(field, nodes));
        }
        _ => (),
    }
}

/// Whether a mapping of `callstats adopt` is on.
fn is_adopted(client: &mut Client) -> bool {
    let found = client
        .query_typed_one("select to_regprocedure('callstats.calls_between(integer, date, date)') is not null", &[]);
    found.and_then(|row| row.try_get(0)).unwrap_or(false)
}

/// Whether the worker's statement runs over the adopted tables, whether new names are looked for, and what is left out.
fn adopted_tables(client: &mut Client) -> Result<Verdict, postgres::Error> {
    let today = chrono::NaiveDate::default();
    let unused: (&(dyn ToSql + Sync), Type) = (&None::<i32>, Type::INT4);
    let [one, two, three] = [unused.clone(), unused.clone(), unused];
    let parameters: [(&(dyn ToSql + Sync), Type); 6] =
        [(&0_i32, Type::INT4), (&today, Type::DATE), (&today, Type::DATE), one, two, three];
    if let Err(error) = client.query_typed(ADOPTED_ORGANIZATION_DAYS, &parameters) {
        return Ok(Verdict::fail(
            format!("an adopted table no longer fits its mapping, and all answers are 503: {}", describe(&error)),
            "callstats adopt status names the mapping; correct it with callstats adopt on",
        ));
    }
    let row = client.query_typed_one(ADOPTED_TABLES, &[])?;
    let (names, age, left_out): (String, i64, Option<String>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let left_out = left_out.map(|text| format!("; left out in the last days: {text}")).unwrap_or_default();
    let (summed, unchecked_hours): (Option<String>, Option<i64>) = (row.try_get(3)?, row.try_get(4)?);
    let unchecked_hours = unchecked_hours.unwrap_or_default();
    let summed = summed
        .map(|days| format!("; {days} from daily sums, the oldest of them compared {unchecked_hours} hours ago"))
        .unwrap_or_default();
    let warnings: Option<String> = row.try_get(6)?;
    let advice: Vec<String> = row.try_get::<_, Option<Vec<String>>>(5)?.unwrap_or_default();
    let reads_all = advice.iter().any(|advice| advice.ends_with(READS_DAYS));
    Ok(if unchecked_hours > 72 {
        Verdict::fail(
            format!("daily sums of {names} were last compared with their rows {unchecked_hours} hours ago"),
            "systemctl enable --now callstats-sync.timer, or run callstats adopt sync each minute",
        )
    } else if age > 600 {
        Verdict::fail(
            format!("new names of {names} were last looked for {age} s ago, so their calls are missing{left_out}"),
            "systemctl enable --now callstats-sync.timer, or run callstats adopt sync each minute",
        )
    } else if let Some(warnings) = warnings {
        Verdict::warn(
            format!("{warnings}{left_out}"),
            "callstats adopt off NAME, a filter for each mapping, or a policy that lets callstats_worker read all rows",
        )
    } else if reads_all {
        Verdict::warn(format!("a day of {names} reads all rows of a table{left_out}"), advice.join("; or "))
    } else {
        let faster: String = advice.iter().map(|advice| format!("; faster with: {advice}")).collect();
        Verdict::Pass(format!("{names}, read in place; synchronized {age} s ago{summed}{left_out}{faster}"))
    })
}

/// Whether call_source is a view over callstats' own tables.
fn has_shipped_source(client: &mut Client) -> bool {
    let found = client.query_typed_one(
        "select coalesce(pg_get_viewdef(to_regclass('callstats.call_source'))
                         ~ 'FROM callstats\\.(call|call_daily|call_sharded)\\M', true)",
        &[],
    );
    found.and_then(|row| row.try_get(0)).unwrap_or(true)
}

/// Whether callstats.call is partitioned by partitions.sql.
fn has_partitions(client: &mut Client) -> bool {
    let found = client.query_typed_one(
        "select to_regprocedure('callstats.month_partitions()') is not null
                and exists (select from pg_class where oid = to_regclass('callstats.call') and relkind = 'p')",
        &[],
    );
    found.and_then(|row| row.try_get(0)).unwrap_or(false)
}

/// Inserting a call without a partition fails.
fn partitions(client: &mut Client) -> Result<Verdict, postgres::Error> {
    let row = client.query_typed_one(
        "select coalesce(to_char(max(ends), 'YYYY-MM-DD'), 'today'), coalesce(max(ends) > current_date + 31, false)
         from callstats.month_partitions()",
        &[],
    )?;
    let (ends, is_far): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
    Ok(if is_far {
        Verdict::Pass(format!("exist until {ends}"))
    } else {
        Verdict::fail(
            format!("no partition exists from {ends} on, so inserts will fail"),
            "select callstats.create_month_partitions(3), and enable callstats-partitions.timer",
        )
    })
}

fn time_zones(client: &mut Client) -> Result<Verdict, postgres::Error> {
    let mut problems = Vec::new();
    for row in client.query_typed(TIME_ZONES, &[])? {
        let texts: [String; 4] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?];
        let [company, organization, time_zone, problem] = texts;
        problems.push(format!("{company}/{organization} has {time_zone}: {problem}"));
    }
    Ok(if problems.is_empty() {
        Verdict::Pass("the server knows those of all organizations, with their changes".into())
    } else {
        Verdict::fail(
            problems.join("; "),
            "update callstats.organization set time_zone = 'Region/City' where short_name = 'NAME'",
        )
    })
}
