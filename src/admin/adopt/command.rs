//! The flow of `callstats adopt`. Touches the database and standard output. Each action but `sync` is one transaction:
//! all of it happens, or nothing; `try` rolls everything back. `sync` creates names in one, and each step of the daily
//! sums is another.

use crate::admin::adopt::catalogue::{Found, failed, look_up};
use crate::admin::adopt::mapping::Mapping;
use crate::admin::adopt::names::create_names;
use crate::admin::adopt::privileges::{grant, revoke};
use crate::admin::adopt::report::shown;
use crate::admin::adopt::session::{begin, is_installed, lock};
use crate::admin::adopt::types::Resolved;
use crate::admin::adopt::warnings::warnings;
use crate::admin::adopt::{advice, calls_between, notes, report, sums};
use crate::admin::connect::connect;
use crate::admin::error::Error;
use crate::cli::{AdoptCommand, MappingArguments};
use postgres::Transaction;
use postgres::types::Type;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

/// The file without its own transaction, because it runs inside ours.
const OBJECTS: &str = include_str!("../../../deploy/adopt.sql");

/// Does it. The lines that say what was done go to `out`.
pub fn run(action: &AdoptCommand, database: Option<&str>, out: &mut dyn Write) -> Result<(), Error> {
    let mut report = String::new();
    let done = act(action, database, &mut report);
    out.write_all(report.as_bytes()).map_err(|error| Error::new(format!("cannot write the report: {error}"), ""))?;
    done
}

fn act(action: &AdoptCommand, database: Option<&str>, out: &mut String) -> Result<(), Error> {
    let mapping = match action {
        AdoptCommand::Try { mapping } | AdoptCommand::On { mapping } => Some(read(mapping)?),
        _ => None,
    };
    let mut client = connect(database)?;
    let mut transaction = begin(&mut client)?;
    require_schema(&mut transaction)?;
    lock(&mut transaction)?;
    match (action, mapping) {
        (AdoptCommand::Try { .. }, Some(mapping)) => {
            install(&mut transaction)?;
            check_time_zone(&mut transaction, &mapping)?;
            let found = look_up(&mut transaction, mapping)?;
            add(&mut transaction, &found)?;
            report::warnings(&warnings(&found, &sources(&mut transaction)?), out);
            report::found(&mut transaction, &found, out)?;
            let created = switch_on(&mut transaction, &found.source)?;
            report::names(created, out);
            report::plans(&mut transaction, &found, out)?;
            transaction.rollback().map_err(failed)?;
            let _ =
                writeln!(out, "Nothing was changed. `callstats adopt on` with the same arguments adopts the table.");
            Ok(())
        }
        (AdoptCommand::On { .. }, Some(mapping)) => {
            install(&mut transaction)?;
            remove_old_scripts(&mut transaction, out)?;
            check_time_zone(&mut transaction, &mapping)?;
            let found = look_up(&mut transaction, mapping)?;
            refuse_twice(&mut transaction, &found)?;
            add(&mut transaction, &found)?;
            let created = switch_on(&mut transaction, &found.source)?;
            let advice = notes::advice(&mut transaction, &found)?;
            let all = sources(&mut transaction)?;
            let warnings = notes::warnings(&mut transaction, &found, &all)?;
            transaction.commit().map_err(failed)?;
            let mapping = &found.source.mapping;
            let _ =
                writeln!(out, "{} is on: {} is read in place.", mapping.name(), shown(mapping.expression("relation")));
            report::names(created, out);
            report::warnings(&warnings, out);
            report::advice(&advice, out);
            let _ = writeln!(
                out,
                "New names appear when `callstats adopt sync` runs; callstats-sync.timer runs it each minute."
            );
            Ok(())
        }
        (AdoptCommand::Off { name }, _) => off(transaction, name.as_deref(), out),
        (AdoptCommand::Status, _) => report::status(&mut transaction, out),
        (AdoptCommand::Sync { full }, _) => {
            if sync(transaction, *full, out)? {
                sums::advance(&mut client, *full, out)?;
            }
            Ok(())
        }
        (AdoptCommand::Try { .. } | AdoptCommand::On { .. }, None) => Err(Error::new("no mapping was read", "")),
    }
}

fn read(MappingArguments { file, options }: &MappingArguments) -> Result<Mapping, Error> {
    let file = file.as_deref();
    let text = file.map(std::fs::read_to_string).transpose().map_err(|error| {
        Error::new(
            format!("cannot read the mapping {}: {error}", file.unwrap_or(Path::new("")).display()),
            "name a TOML file that this user can read",
        )
    })?;
    Mapping::read(text.as_deref(), options)
}

/// What `tenant add` refuses, too: otherwise it would be the zone of no organization, and have other days.
fn check_time_zone(transaction: &mut Transaction<'_>, mapping: &Mapping) -> Result<(), Error> {
    let Some(zone) = mapping.get("time_zone") else { return Ok(()) };
    let row = transaction
        .query_typed_one("select callstats.time_zone_problem($1)", &[(&zone, Type::TEXT)])
        .map_err(failed)?;
    row.try_get::<_, Option<String>>(0).map_err(failed)?.map_or(Ok(()), |problem| {
        Err(Error::new(
            format!("time zone \"{zone}\" {problem}"),
            "use the IANA name of a city, such as Europe/Berlin; \"select name from pg_timezone_names\" lists them",
        ))
    })
}

fn require_schema(transaction: &mut Transaction<'_>) -> Result<(), Error> {
    let row = transaction
        .query_typed_one("select to_regclass('callstats.schema_version') is not null", &[])
        .map_err(failed)?;
    if row.try_get(0).map_err(failed)? {
        return Ok(());
    }
    Err(Error::new("the schema callstats does not exist in this database", "callstats schema install"))
}

fn install(transaction: &mut Transaction<'_>) -> Result<(), Error> {
    let body = OBJECTS.split_once("\nbegin;\n").map_or(OBJECTS, |(_, body)| body);
    let body = body.rsplit_once("\ncommit;").map_or(body, |(body, _)| body);
    transaction.batch_execute(body).map_err(failed)
}

/// The scripts of earlier versions put a view over the site's table in the place of callstats.call_source. It pins that
/// table, and its calls would count twice.
fn remove_old_scripts(transaction: &mut Transaction<'_>, out: &mut String) -> Result<(), Error> {
    let row = transaction
        .query_typed_one(
            "select exists (select from pg_catalog.pg_depend d join pg_catalog.pg_rewrite r on r.oid = d.objid
                            where d.classid = 'pg_catalog.pg_rewrite'::regclass
                              and r.ev_class = to_regclass('callstats.call_source')
                              and d.refobjid = to_regclass('callstats.adopted'))",
            &[],
        )
        .map_err(failed)?;
    if !row.try_get::<_, bool>(0).map_err(failed)? {
        return Ok(());
    }
    transaction
        .batch_execute(
            "drop view callstats.call_source;
             drop function if exists callstats.adopt_names();
             drop view callstats.adopted;
             create view callstats.call_source as
                 select organization_id, call_date, folder_id, agent_id, 1 as calls, duration_ms from callstats.call;
             grant select on callstats.call_source to callstats_worker",
        )
        .map_err(failed)?;
    out.push_str(
        "The view of the old adoption script was removed; callstats.call_source reads callstats.call again.\n",
    );
    Ok(())
}

/// A view that the site put in the place of callstats.call_source may read the same table.
fn refuse_twice(transaction: &mut Transaction<'_>, found: &Found) -> Result<(), Error> {
    let relations: Vec<&str> = found.used.iter().map(|used| used.relation.as_str()).collect();
    let row = transaction
        .query_typed_opt(
            "select c.oid::regclass::text from pg_catalog.pg_depend d join pg_catalog.pg_rewrite r on r.oid = d.objid
             join pg_catalog.pg_class c on c.oid = d.refobjid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where d.classid = 'pg_catalog.pg_rewrite'::regclass
               and r.ev_class = to_regclass('callstats.call_source')
               and quote_ident(n.nspname) || '.' || quote_ident(c.relname) = any($1) limit 1",
            &[(&relations, Type::TEXT_ARRAY)],
        )
        .map_err(failed)?;
    let Some(row) = row else { return Ok(()) };
    let name: String = row.try_get(0).map_err(failed)?;
    Err(Error::new(
        format!("callstats.call_source is a view over {name}, so its calls would count twice"),
        "drop view callstats.call_source and run schema.sql again, which creates it over callstats.call",
    ))
}

/// Stores a mapping, and lets the worker read its table.
fn add(transaction: &mut Transaction<'_>, found: &Found) -> Result<(), Error> {
    let mapping = &found.source.mapping;
    let is_changed = transaction
        .query_typed_opt(
            "select from callstats.source where name = $1 and mapping <> $2",
            &[(&mapping.name(), Type::TEXT), (&mapping.to_toml(), Type::TEXT)],
        )
        .map_err(failed)?
        .is_some();
    if is_changed {
        sums::forget(transaction, mapping.name())?;
    }
    transaction
        .execute_typed(
            "insert into callstats.source (name, mapping) values ($1, $2)
             on conflict (name) do update set mapping = excluded.mapping",
            &[(&mapping.name(), Type::TEXT), (&mapping.to_toml(), Type::TEXT)],
        )
        .map_err(failed)?;
    notes::types(transaction, &found.source)?;
    grant(transaction, mapping.name(), &found.used)
}

/// Creates the names of a mapping, and puts it behind the answers.
fn switch_on(transaction: &mut Transaction<'_>, source: &Resolved) -> Result<[u64; 3], Error> {
    let created = create_names(transaction, source, "true")?;
    transaction.execute_typed("select callstats.fill_zone_days(false)", &[]).map_err(failed)?;
    notes::counts(transaction, source, true)?;
    generate(transaction)?;
    Ok(created)
}

/// Reads the mappings that are on.
fn sources(transaction: &mut Transaction<'_>) -> Result<Vec<Found>, Error> {
    let rows = transaction.query_typed("select mapping from callstats.source order by name", &[]).map_err(failed)?;
    let mut sources = Vec::new();
    for row in rows {
        let text: String = row.try_get(0).map_err(failed)?;
        sources.push(look_up(transaction, Mapping::read(Some(&text), &[])?)?);
    }
    Ok(sources)
}

/// Writes the function that the worker reads; without a mapping there is none, and the worker reads call_source.
fn generate(transaction: &mut Transaction<'_>) -> Result<(), Error> {
    let mut sources_with_index = Vec::new();
    for found in sources(transaction)? {
        let is_indexed = advice::index(transaction, &found.source)? > advice::Index::None;
        sources_with_index.push((found.source, is_indexed));
    }
    let sources = sources_with_index;
    let text = if sources.is_empty() {
        "drop function if exists callstats.calls_between(int, date, date)".to_owned()
    } else {
        let has_odd_names = transaction
            .query_typed_one(calls_between::HAS_ODD_NAMES, &[])
            .and_then(|row| row.try_get(0))
            .map_err(failed)?;
        calls_between::calls_between(&sources, has_odd_names)
    };
    transaction.batch_execute(&text).map_err(failed)?;
    transaction.execute_typed("select callstats.give_to_owner()", &[]).map_err(failed)?;
    Ok(())
}

fn off(mut transaction: Transaction<'_>, name: Option<&str>, out: &mut String) -> Result<(), Error> {
    if !is_installed(&mut transaction)? {
        out.push_str("No mapping is on.\n");
        return Ok(());
    }
    let rows = transaction
        .query_typed(
            "delete from callstats.source where name = coalesce($1, name) returning name, granted",
            &[(&name, Type::TEXT)],
        )
        .map_err(failed)?;
    let mut revocations = Vec::new();
    for row in &rows {
        let _ = writeln!(out, "{} is off; its names stay.", row.try_get::<_, String>(0).map_err(failed)?);
        revocations.extend(row.try_get::<_, Vec<String>>(1).map_err(failed)?);
    }
    if rows.is_empty() {
        let _ = match name {
            Some(name) => writeln!(out, "{name} is not on."),
            None => writeln!(out, "No mapping is on."),
        };
    }
    revoke(&mut transaction, revocations)?;
    for found in &sources(&mut transaction)? {
        grant(&mut transaction, found.source.mapping.name(), &found.used)?;
    }
    generate(&mut transaction)?;
    transaction.commit().map_err(failed)
}

/// Creates new names: those of the last days, and once a day those of all rows. Follows what the site did to its table.
/// False: there is none.
fn sync(mut transaction: Transaction<'_>, full: bool, out: &mut String) -> Result<bool, Error> {
    if !is_installed(&mut transaction)? {
        out.push_str("No mapping is on.\n");
        return Ok(false);
    }
    install(&mut transaction)?;
    let due: Vec<String> = transaction
        .query_typed(
            "select name from callstats.source 
             where $1 or searched_at is null or searched_at < now() - interval '1 day'",
            &[(&full, Type::BOOL)],
        )
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(failed)?;
    let all = sources(&mut transaction)?;
    for found in &all {
        let source = &found.source;
        let is_full = due.iter().any(|name| name == source.mapping.name());
        let condition = if is_full { "true".to_owned() } else { source.start.is_recent("t.start") };
        grant(&mut transaction, source.mapping.name(), &found.used)?;
        notes::types(&mut transaction, source)?;
        notes::warnings(&mut transaction, found, &all)?;
        let created = create_names(&mut transaction, source, &condition)?;
        notes::counts(&mut transaction, source, is_full)?;
        if is_full {
            notes::advice(&mut transaction, found)?;
        }
        if created.iter().sum::<u64>() > 0 || full {
            let _ = write!(out, "{}: ", source.mapping.name());
            report::names(created, out);
        }
    }
    transaction
        .execute_typed("select callstats.fill_zone_days($1)", &[(&!due.is_empty(), Type::BOOL)])
        .map_err(failed)?;
    sums::forget_outdated(&mut transaction)?;
    generate(&mut transaction)?;
    transaction.commit().map_err(failed)?;
    Ok(true)
}
