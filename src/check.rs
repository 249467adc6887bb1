//! `callstats check`: one line for each thing that must be right. Touches the database, the root token file and the
//! socket, and writes to none of them.

use crate::config::Config;
use crate::database::{Connector, ORGANIZATION_DAYS, explained};
use crate::response::write_json;
use crate::root_token;
use postgres::Client;
use rustix::fs::{Access, access};
use serde::Serialize;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// The version of `deploy/schema.sql` that this executable was made for.
const SCHEMA_VERSION: i32 = 1;

/// What was looked at, and how it is: what is well, or what is wrong and what mends it.
#[derive(Debug)]
struct Finding {
    name: &'static str,
    result: Result<String, String>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    ok: bool,
    text: &'a str,
}

impl Finding {
    fn line(&self) -> Line<'_> {
        let (Ok(text) | Err(text)) = &self.result;
        Line { name: self.name, ok: self.result.is_ok(), text }
    }
}

/// How findings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Lines for people, in colour or not.
    Lines {
        /// Standard output is a terminal.
        coloured: bool,
    },
    /// One JSON object for programs.
    Json,
}

/// Looks at everything and writes what it found. Fails with 1 where something is wrong.
pub fn run(configured: Result<(Config, Connector), Vec<String>>, style: Style, out: &mut dyn Write) -> ExitCode {
    let findings = match configured {
        Err(errors) => errors.into_iter().map(|error| Finding { name: "configuration", result: Err(error) }).collect(),
        Ok((config, connector)) => all(&config, &connector),
    };
    let is_ok = findings.iter().all(|finding| finding.result.is_ok());
    let written = out.write_all(&match style {
        Style::Json => json(&findings, is_ok),
        Style::Lines { coloured } => lines(&findings, coloured).into_bytes(),
    });
    if is_ok && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn lines(findings: &[Finding], coloured: bool) -> String {
    let line = |finding: &Finding| {
        let Line { name, ok, text } = finding.line();
        let (mark, colour) = if ok { ("ok   ", "\x1b[32m") } else { ("WRONG", "\x1b[31m") };
        let (colour, plain) = if coloured { (colour, "\x1b[0m") } else { ("", "") };
        format!("{colour}{mark}{plain}  {name:<15}  {text}\n")
    };
    findings.iter().map(line).collect()
}

fn json(findings: &[Finding], is_ok: bool) -> Vec<u8> {
    #[derive(Serialize)]
    struct Whole<'a> {
        ok: bool,
        checks: Vec<Line<'a>>,
    }
    let mut bytes = Vec::new();
    write_json(&mut bytes, &Whole { ok: is_ok, checks: findings.iter().map(Finding::line).collect() });
    bytes.push(b'\n');
    bytes
}

/// What is right, or what is wrong and what mends it.
type Check = fn(&mut Client) -> Result<Result<String, String>, postgres::Error>;

fn all(config: &Config, connector: &Connector) -> Vec<Finding> {
    let mut findings = Vec::new();
    match connector.client() {
        Err(error) => findings.push(Finding { name: "database", result: Err(error.to_string()) }),
        Ok(mut client) => {
            let mut checks: Vec<(&str, Check)> = vec![
                ("database", database),
                ("schema", schema),
                ("rights", rights),
                ("index", index),
                ("time zones", time_zones),
            ];
            if has_months(&mut client) {
                checks.push(("months", months));
            }
            for (name, check) in checks {
                let result = check(&mut client).unwrap_or_else(|error| Err(explained(&error)));
                findings.push(Finding { name, result });
            }
        }
    }
    findings.push(Finding { name: "root token file", result: root_token_file(&config.root_token_file) });
    if let Some(path) = &config.socket {
        findings.push(Finding { name: "socket", result: socket(path) });
    }
    findings
}

fn database(client: &mut Client) -> Result<Result<String, String>, postgres::Error> {
    let began = Instant::now();
    let row = client
        .query_one("select current_setting('server_version_num')::int, current_setting('server_version')", &[])?;
    let milliseconds = began.elapsed().as_secs_f64() * 1000.0;
    let (number, version): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(if number >= 130_000 {
        Ok(format!("PostgreSQL {version}, a round trip takes {milliseconds:.1} ms"))
    } else {
        Err(format!("PostgreSQL {version} is too old: upgrade it to 13 or newer"))
    })
}

fn schema(client: &mut Client) -> Result<Result<String, String>, postgres::Error> {
    let mend = "psql -X -v ON_ERROR_STOP=1 -d DATABASE < deploy/schema.sql";
    let exists: bool =
        client.query_one("select to_regclass('callstats.schema_version') is not null", &[])?.try_get(0)?;
    if !exists {
        return Ok(Err(format!("the schema callstats is not there: {mend}")));
    }
    let version: Option<i32> =
        client.query_one("select max(version) from callstats.schema_version", &[])?.try_get(0)?;
    Ok(match version {
        Some(SCHEMA_VERSION) => Ok(format!("version {SCHEMA_VERSION}")),
        Some(newer) if newer > SCHEMA_VERSION => {
            Err(format!("version {newer} is newer than this executable, which knows {SCHEMA_VERSION}: upgrade it"))
        }
        older => Err(format!("version {} is older than {SCHEMA_VERSION}: {mend}", older.unwrap_or(0))),
    })
}

/// Neither missing nor too many.
fn rights(client: &mut Client) -> Result<Result<String, String>, postgres::Error> {
    let rows = client.query(
        "with needed(name) as (values ('company'), ('organization'), ('folder'), ('call_source'), ('schema_version'))
         select 'cannot read callstats.' || name || ': grant select on callstats.' || name || ' to ' || quote_ident(current_user)
         from needed
         where coalesce(not has_table_privilege(to_regclass('callstats.' || name), 'select'), true)
         union all
         select 'can write ' || oid::regclass || ': revoke all on ' || oid::regclass || ' from ' || quote_ident(current_user)
         from pg_class
         where relnamespace = to_regnamespace('callstats') and relkind in ('r', 'p', 'v', 'm', 'f')
           and has_table_privilege(oid, 'insert, update, delete, truncate')
         union all
         select 'can read ' || oid::regclass || ', which it does not need: revoke all on ' || oid::regclass || ' from '
                || quote_ident(current_user)
         from pg_class
         where relnamespace = to_regnamespace('callstats') and relkind in ('r', 'p', 'v', 'm', 'f')
           and relname not in (select name from needed) and has_table_privilege(oid, 'select')
         union all
         select 'is a superuser: connect as callstats_worker' from pg_roles where rolname = current_user and rolsuper",
        &[],
    )?;
    let user: String = client.query_one("select current_user::text", &[])?.try_get(0)?;
    let wrong = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    Ok(match wrong.as_slice() {
        [] => Ok(format!("{user} can read what it needs, and write nothing")),
        wrong => Err(format!("{user} {}", wrong.join("; "))),
    })
}

/// Whether groups come in order as they are read. On a small table PostgreSQL would rather read and sort all of it, so
/// it is asked for the plan that it would have for a large one.
fn index(client: &mut Client) -> Result<Result<String, String>, postgres::Error> {
    let mut transaction = client.transaction()?;
    transaction.batch_execute(
        "set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_hashagg = off;
         set local max_parallel_workers_per_gather = 0",
    )?;
    let organization: i32 =
        transaction.query_one("select coalesce(min(id), 0) from callstats.organization", &[])?.try_get(0)?;
    let statement = ORGANIZATION_DAYS
        .replace("$1", &organization.to_string())
        .replace("$2", "'2000-01-01'")
        .replace("$3", "'2000-12-31'");
    let plan = transaction.simple_query(&format!("explain (costs off) {statement}"))?;
    let plan: Vec<&str> = plan
        .iter()
        .filter_map(|message| match message {
            postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    let nodes = plan.iter().map(|line| line.trim_start().trim_start_matches("->").trim_start());
    if nodes.clone().any(|node| node.starts_with("Foreign Scan")) {
        let mode: String = transaction.query_one("select current_setting('plan_cache_mode')", &[])?.try_get(0)?;
        return Ok(if mode == "force_custom_plan" {
            Ok("shards stand behind callstats.call_source, and each statement is planned for its own".into())
        } else {
            Err("the shards behind callstats.call_source send all calls of a range rather than their sums: add \
                 options='-c plan_cache_mode=force_custom_plan' to DATABASE_URL"
                .into())
        });
    }
    let is_sorted = nodes.clone().any(|node| node == "Sort" || node == "Incremental Sort");
    Ok(if is_sorted || nodes.clone().any(|node| node.starts_with("Seq Scan")) {
        Err("no index behind callstats.call_source has the order of the groups, so PostgreSQL reads and sorts all \
             calls of a range: create index on the table of calls (organization_id, call_date, folder_id, agent_id \
             collate \"C\") include (duration_ms)"
            .into())
    } else {
        Ok("an index behind callstats.call_source has the order of the groups".into())
    })
}

/// Whether the calls are in months, made by partitions.sql.
fn has_months(client: &mut Client) -> bool {
    let found = client.query_one(
        "select to_regprocedure('callstats.month_partitions()') is not null
                and exists (select from pg_class where oid = to_regclass('callstats.call') and relkind = 'p')",
        &[],
    );
    found.and_then(|row| row.try_get(0)).unwrap_or(false)
}

/// A call for which there is no month is refused.
fn months(client: &mut Client) -> Result<Result<String, String>, postgres::Error> {
    let row = client.query_one(
        "select coalesce(to_char(max(ends), 'YYYY-MM-DD'), 'today'), coalesce(max(ends) > current_date + 31, false)
         from callstats.month_partitions()",
        &[],
    )?;
    let (ends, is_far): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
    Ok(if is_far {
        Ok(format!("made until {ends}"))
    } else {
        Err(format!(
            "calls from {ends} on will be refused: select callstats.make_months(3), every day, as \
             callstats-months.timer does"
        ))
    })
}

fn time_zones(client: &mut Client) -> Result<Result<String, String>, postgres::Error> {
    let rows = client.query(
        "select c.short_name || '/' || o.short_name || ' has ' || o.time_zone
         from callstats.organization o join callstats.company c on c.id = o.company_id
         where o.time_zone not in (select name from pg_timezone_names) order by 1",
        &[],
    )?;
    let unknown = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    Ok(match unknown.as_slice() {
        [] => Ok("the server knows those of all organizations".into()),
        unknown => Err(format!(
            "the server does not know all: {}: update callstats.organization set time_zone = ...",
            unknown.join(", ")
        )),
    })
}

fn root_token_file(path: &Path) -> Result<String, String> {
    root_token::read(path).map_err(|problem| problem.text)?;
    let name = path.display();
    match path.metadata() {
        Ok(found) if found.permissions().mode() & 0o004 != 0 => {
            Err(format!("{name} can be read by everybody: chmod o-rwx {name}"))
        }
        Ok(_) => Ok(format!("{name} can be read by the worker, and not by everybody")),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

fn socket(path: &Path) -> Result<String, String> {
    let name = path.display();
    let place = if path.exists() { path } else { path.parent().unwrap_or(path) };
    match access(place, Access::WRITE_OK) {
        Ok(()) => Ok(format!("{name} is writable")),
        Err(error) => Err(format!("{name}: {error}: make its folder, and give it to the user of the worker")),
    }
}
