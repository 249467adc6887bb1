//! `callstats tenant`: companies, organizations and folders. Touches the database, and the terminal for a question.

use crate::admin::error::Error;
use crate::admin::interrupt::{self, Step};
use crate::admin::name::{self, shown};
use crate::admin::{Output, output, warn_unless_composed};
use crate::cli::{TenantCommand, TenantName};
use postgres::{Client, Transaction};
use serde::Serialize;
use std::io::{self, BufRead, IsTerminal, Write};

const LIST: &str = include_str!("sql/tenant_list.sql");
const FIND: &str = include_str!("sql/tenant_find.sql");
const CONTENT: &str = include_str!("sql/tenant_content.sql");
const FORGET_FILES: &str = include_str!("sql/tenant_forget_files.sql");
const DELETE_CALLS: &str = include_str!("sql/tenant_delete_calls.sql");
const DELETE_SUMS: &str = include_str!("sql/tenant_delete_sums.sql");
const DELETE: &str = include_str!("sql/tenant_delete.sql");

/// Runs the command.
pub fn run(command: &TenantCommand, client: &mut Client, out: &mut Output<'_>) -> Result<(), Error> {
    let work = interrupt::Progress::watch(interrupt::Texts {
        working: "interrupted; nothing was changed",
        committing: "interrupted while it was committed; callstats tenant list shows what is there",
    });
    work.set(Step::Working);
    let mut transaction = super::transaction(client)?;
    let (changes, json) = match command {
        TenantCommand::List { json } => return list(&mut transaction, *json, out),
        TenantCommand::Add { name, time_zone, json } => {
            (add(&mut transaction, name, time_zone.as_deref(), out)?, *json)
        }
        TenantCommand::Rename { name, to, json } => (vec![rename(&mut transaction, name, to, out)?], *json),
        TenantCommand::Delete { name, with_calls, yes, json } => {
            (vec![delete(&mut transaction, name, *with_calls, *yes)?], *json)
        }
    };
    work.set(Step::Committing);
    transaction.commit()?;
    work.set(Step::Nothing);
    if json {
        #[derive(Serialize)]
        struct Summary<'a> {
            changes: &'a [Change],
        }
        return output::json(out.stdout, &Summary { changes: &changes });
    }
    let lines: Vec<String> = changes.iter().map(Change::line).collect();
    output::text(out.stdout, &lines.concat())
}

/// What became of one tenant.
#[derive(Debug, Serialize)]
struct Change {
    kind: &'static str,
    /// With those above it.
    name: Vec<String>,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<i64>,
}

impl Change {
    fn new(kind: &'static str, name: Vec<String>, result: &'static str) -> Self {
        Self { kind, name, result, time_zone: None, new_name: None, calls: None }
    }

    fn line(&self) -> String {
        let mut line = format!("{} {} {}", self.kind, path(&self.name), self.result);
        if let Some(zone) = &self.time_zone {
            line.push_str(&format!(", time zone {zone}"));
        }
        if let Some(name) = &self.new_name {
            line.push_str(&format!(" to {}", shown(name)));
        }
        if let Some(calls) = self.calls {
            line.push_str(&format!(", with {calls} calls"));
        }
        line.push('\n');
        line
    }
}

/// Names joined by slashes, each in quotes.
fn path(names: &[String]) -> String {
    names.iter().map(|name| shown(name)).collect::<Vec<_>>().join("/")
}

pub fn no_company(name: &str) -> Error {
    Error::new(format!("there is no company {}", shown(name)), "callstats tenant list shows those that exist")
}

impl TenantName {
    fn names(&self) -> Vec<String> {
        [Some(&self.company), self.organization.as_ref(), self.folder.as_ref()].into_iter().flatten().cloned().collect()
    }

    fn kind(&self) -> &'static str {
        match (&self.organization, &self.folder) {
            (None, _) => "company",
            (Some(_), None) => "organization",
            (Some(_), Some(_)) => "folder",
        }
    }
}

/// The ids of a tenant that exists, and of those above it.
struct Ids {
    company: i32,
    organization: Option<i32>,
    folder: Option<i32>,
}

fn find(transaction: &mut Transaction<'_>, tenant: &TenantName) -> Result<Ids, Error> {
    let row = transaction.query_one(FIND, &[&tenant.company, &tenant.organization, &tenant.folder])?;
    let ids = (row.try_get("company")?, row.try_get("organization")?, row.try_get("folder")?);
    let (company, organization, folder): (Option<i32>, Option<i32>, Option<i32>) = ids;
    let Some(company) = company else { return Err(no_company(&tenant.company)) };
    let missing = |kind: &str, name: &str, above: &str| {
        Err(Error::new(
            format!("there is no {kind} {} in {above}", shown(name)),
            "callstats tenant list shows those that exist",
        ))
    };
    match (&tenant.organization, organization, &tenant.folder, folder) {
        (Some(name), None, _, _) => missing("organization", name, &format!("company {}", shown(&tenant.company))),
        (Some(above), _, Some(name), None) => missing("folder", name, &format!("organization {}", shown(above))),
        _ => Ok(Ids { company, organization, folder }),
    }
}

fn add(
    transaction: &mut Transaction<'_>,
    tenant: &TenantName,
    zone: Option<&str>,
    out: &mut Output<'_>,
) -> Result<Vec<Change>, Error> {
    for (kind, name) in ["company", "organization", "folder"].into_iter().zip(tenant.names()) {
        name::check(kind, &name)?;
        warn_unless_composed(out, kind, &name);
    }
    let names = tenant.names();
    let result = |was_added: bool| if was_added { "added" } else { "exists" };
    let added = transaction.execute(
        "insert into callstats.company (short_name) values ($1) on conflict (short_name) do nothing",
        &[&tenant.company],
    )?;
    let company: i32 = transaction
        .query_one("select id from callstats.company where short_name = $1", &[&tenant.company])?
        .try_get(0)?;
    let mut changes = vec![Change::new("company", names[..1].to_vec(), result(added > 0))];
    let Some(name) = &tenant.organization else { return Ok(changes) };
    let added = transaction.execute(
        "insert into callstats.organization (company_id, short_name, time_zone) values ($1, $2, coalesce($3, 'UTC'))
         on conflict (company_id, short_name) do nothing",
        &[&company, name, &zone],
    )?;
    let changed = match zone {
        Some(zone) if added == 0 => transaction.execute(
            "update callstats.organization set time_zone = $3
             where company_id = $1 and short_name = $2 and time_zone <> $3",
            &[&company, name, &zone],
        )?,
        _ => 0,
    };
    let row = transaction.query_one(
        "select id, time_zone from callstats.organization where company_id = $1 and short_name = $2",
        &[&company, name],
    )?;
    let organization: i32 = row.try_get(0)?;
    let mut change = Change::new("organization", names[..2].to_vec(), result(added > 0));
    if changed > 0 {
        change.result = "changed";
    }
    change.time_zone = Some(row.try_get(1)?);
    changes.push(change);
    let Some(name) = &tenant.folder else { return Ok(changes) };
    let added = transaction.execute(
        "insert into callstats.folder (organization_id, name) values ($1, $2)
         on conflict (organization_id, name) do nothing",
        &[&organization, name],
    )?;
    changes.push(Change::new("folder", names, result(added > 0)));
    Ok(changes)
}

fn rename(
    transaction: &mut Transaction<'_>,
    tenant: &TenantName,
    to: &str,
    out: &mut Output<'_>,
) -> Result<Change, Error> {
    let kind = tenant.kind();
    name::check(kind, to)?;
    warn_unless_composed(out, kind, to);
    let ids = find(transaction, tenant)?;
    let renamed = match (ids.organization, ids.folder) {
        (None, _) => {
            transaction.execute("update callstats.company set short_name = $2 where id = $1", &[&ids.company, &to])
        }
        (Some(id), None) => {
            transaction.execute("update callstats.organization set short_name = $2 where id = $1", &[&id, &to])
        }
        (_, Some(id)) => transaction.execute("update callstats.folder set name = $2 where id = $1", &[&id, &to]),
    };
    match renamed {
        Ok(_) => {
            let mut change = Change::new(kind, tenant.names(), "renamed");
            change.new_name = Some(to.to_owned());
            Ok(change)
        }
        Err(error) if error.code() == Some(&postgres::error::SqlState::UNIQUE_VIOLATION) => {
            Err(Error::new(format!("there is already a {kind} {}", shown(to)), "choose another name"))
        }
        Err(error) => Err(error.into()),
    }
}

fn delete(
    transaction: &mut Transaction<'_>,
    tenant: &TenantName,
    with_calls: bool,
    yes: bool,
) -> Result<Change, Error> {
    transaction.batch_execute(super::LONG)?;
    let ids = find(transaction, tenant)?;
    let scope: [&(dyn postgres::types::ToSql + Sync); 3] = [&ids.company, &ids.organization, &ids.folder];
    let what = format!("{} {}", tenant.kind(), path(&tenant.names()));
    let row = transaction.query_one(CONTENT, &scope)?;
    let (organizations, folders): (i64, i64) = (row.try_get("organizations")?, row.try_get("folders")?);
    let has_calls: bool = row.try_get("has_calls")?;
    if has_calls && !with_calls {
        return Err(Error::new(
            format!("{what} has calls, and was not deleted"),
            "--with-calls deletes them, too; callstats tenant rename keeps them",
        ));
    }
    if has_calls && !yes {
        confirm(&format!("Delete {what} ({organizations} organizations, {folders} folders) and all its calls?"))?;
    }
    // Before the calls, in the order of loads.
    if row.try_get("has_files")? {
        transaction.execute(FORGET_FILES, &scope)?;
    }
    let calls = if with_calls { transaction.execute(DELETE_CALLS, &scope)? } else { 0 };
    if with_calls && row.try_get("has_rollup")? {
        transaction.execute(DELETE_SUMS, &scope)?;
    }
    for statement in DELETE.split(';').filter(|statement| !statement.trim().is_empty()) {
        transaction.execute(statement, &scope).map_err(|error| match error.code() {
            Some(&postgres::error::SqlState::FOREIGN_KEY_VIOLATION) => Error::new(
                format!("something refers to {what}, which was not deleted: {}", crate::database::describe(&error)),
                "if calls are being written just now, stop that, and run it again",
            ),
            _ => error.into(),
        })?;
    }
    let mut change = Change::new(tenant.kind(), tenant.names(), "deleted");
    change.calls = with_calls.then(|| i64::try_from(calls).unwrap_or(i64::MAX));
    Ok(change)
}

/// Asks on the terminal.
fn confirm(question: &str) -> Result<(), Error> {
    let refused = |message: &str, hint: &str| Err(Error::new(message, hint));
    if !io::stdin().is_terminal() {
        return refused(
            "nobody can be asked, because standard input is not a terminal",
            "--yes deletes without a question",
        );
    }
    let mut answer = String::new();
    let asked = write!(io::stderr(), "{question} Type yes: ").and_then(|()| io::stdin().lock().read_line(&mut answer));
    match asked {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        _ => refused("nothing was deleted", ""),
    }
}

fn list(transaction: &mut Transaction<'_>, json: bool, out: &mut Output<'_>) -> Result<(), Error> {
    #[derive(Serialize)]
    struct Company {
        company: String,
        tokens: i64,
        organizations: Vec<Organization>,
    }
    #[derive(Serialize)]
    struct Organization {
        organization: String,
        time_zone: String,
        folders: Vec<String>,
    }
    let mut companies: Vec<Company> = Vec::new();
    let mut table = Vec::new();
    for row in transaction.query(LIST, &[])? {
        let company: String = row.try_get("company")?;
        let organization: Option<String> = row.try_get("organization")?;
        let zone: Option<String> = row.try_get("time_zone")?;
        let (folder, tokens): (Option<String>, i64) = (row.try_get("folder")?, row.try_get("tokens")?);
        if !json {
            let cell = |text: Option<String>| text.unwrap_or_else(|| "-".into());
            table.push(vec![company, tokens.to_string(), cell(organization), cell(zone), cell(folder)]);
            continue;
        }
        if companies.last().is_none_or(|last| last.company != company) {
            companies.push(Company { company, tokens, organizations: Vec::new() });
        }
        let Some(last) = companies.last_mut() else { continue };
        let Some((organization, time_zone)) = organization.zip(zone) else { continue };
        if last.organizations.last().is_none_or(|last| last.organization != organization) {
            last.organizations.push(Organization { organization, time_zone, folders: Vec::new() });
        }
        if let Some(last) = last.organizations.last_mut() {
            last.folders.extend(folder);
        }
    }
    if json {
        output::json(out.stdout, &companies)
    } else {
        output::table(out.stdout, &["COMPANY", "TOKENS", "ORGANIZATION", "TIME ZONE", "FOLDER"], &table)
    }
}
