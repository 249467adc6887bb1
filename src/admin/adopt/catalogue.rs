//! What the database knows of a mapping: the types of its expressions, the columns that they read, and what of other
//! roles could run code then. Touches the database; nothing of it remains, because the caller rolls back to a
//! savepoint.

use crate::admin::adopt::mapping::Mapping;
use crate::admin::adopt::sql;
use crate::admin::adopt::types::{Column, Resolved, resolve};
use crate::admin::error::Error;
use crate::database::describe;
use postgres::Transaction;
use postgres::error::SqlState;
use postgres::types::Type;

const COLUMNS: &str = "
    select a.attname::text, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null),
           quote_ident(n.nspname) || '.' || quote_ident(c.collname), coalesce(c.collisdeterministic, true)
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_type t on t.oid = a.atttypid
    left join pg_catalog.pg_collation c on c.oid = a.attcollation
    left join pg_catalog.pg_namespace n on n.oid = c.collnamespace
    where a.attrelid = 'pg_temp.callstats_probe'::regclass and a.attnum > 0";

/// What can run code when pg_temp.callstats_probe is read: what the relations and expressions refer to, and what
/// belongs to the relations; of those the ones whose owner cannot act as this role or as the owner of the database.
const STRANGERS: &str = "
    with recursive reached (class, object) as (
        select 'pg_class'::regclass::oid, 'pg_temp.callstats_probe'::regclass::oid
        union
        select next.* from reached r cross join lateral (
            select d.refclassid, d.refobjid from pg_depend d where d.classid = r.class and d.objid = r.object
            union all
            select d.classid, d.objid from pg_depend d
            where d.refclassid = r.class and d.refobjid = r.object and d.deptype in ('a', 'i')
              and d.classid in ('pg_class'::regclass, 'pg_rewrite'::regclass, 'pg_policy'::regclass,
                                'pg_attrdef'::regclass, 'pg_constraint'::regclass)
              and not exists (select from pg_constraint c
                              where d.classid = 'pg_constraint'::regclass and c.oid = d.objid and c.contype = 'f')) next
    ), owned (class, object, owner) as (
        select class, object, coalesce(c.relowner, p.proowner, t.typowner, n.nspowner, o.oprowner)
        from reached
        left join pg_class c on class = 'pg_class'::regclass and c.oid = object
        left join pg_proc p on class = 'pg_proc'::regclass and p.oid = object
        left join pg_type t on class = 'pg_type'::regclass and t.oid = object
        left join pg_namespace n on class = 'pg_namespace'::regclass and n.oid = object
        left join pg_operator o on class = 'pg_operator'::regclass and o.oid = object
    )
    select distinct pg_describe_object(class, object, 0) || ' of ' || quote_ident(pg_get_userbyid(owner))
    from owned
    where owner is not null and pg_get_userbyid(owner) <> 'pg_database_owner'
      and not pg_has_role(owner, current_user, 'member')
      and not pg_has_role(owner, (select datdba from pg_database where datname = current_database()), 'member')
    order by 1";

/// The tables and columns that the worker has to read, as statements of GRANT and REVOKE without their verb.
const PRIVILEGES: &str = "
    select quote_ident(n.nspname), quote_ident(n.nspname) || '.' || quote_ident(c.relname),
           array_remove(array_agg(distinct quote_ident(a.attname)), null),
           has_schema_privilege('callstats_worker', n.oid, 'usage'),
           has_table_privilege('callstats_worker', c.oid, 'select')
               or coalesce(bool_and(has_column_privilege('callstats_worker', c.oid, a.attnum, 'select')), false),
           c.relrowsecurity and (c.relforcerowsecurity or not pg_has_role('callstats_worker', c.relowner, 'usage'))
               and not exists (select from pg_catalog.pg_roles w
                               where w.rolname = 'callstats_worker' and (w.rolbypassrls or w.rolsuper))
    from pg_catalog.pg_depend d
    join pg_catalog.pg_rewrite r on d.classid = 'pg_catalog.pg_rewrite'::regclass and r.oid = d.objid
    join pg_catalog.pg_class c on d.refclassid = 'pg_catalog.pg_class'::regclass and c.oid = d.refobjid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid and a.attnum > 0
    where r.ev_class = 'pg_temp.callstats_probe'::regclass and c.oid <> r.ev_class
    group by n.oid, n.nspname, c.oid, c.relname, c.relowner, c.relrowsecurity, c.relforcerowsecurity";

/// A relation that the mapping reads.
#[derive(Debug, Clone)]
pub struct Used {
    pub schema: String,
    pub relation: String,
    /// None are known: the whole relation is read.
    pub columns: Vec<String>,
    pub schema_is_granted: bool,
    pub is_granted: bool,
    /// The worker reads the rows that policies let it read.
    pub has_policies: bool,
}

impl Used {
    /// The privileges that the worker lacks, as what follows GRANT or REVOKE up to TO or FROM.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if !self.schema_is_granted {
            missing.push(format!("usage on schema {}", self.schema));
        }
        if !self.is_granted {
            let columns = self.columns.join(", ");
            let columns = if columns.is_empty() { columns } else { format!(" ({columns})") };
            missing.push(format!("select{columns} on {}", self.relation));
        }
        missing
    }
}

/// A mapping with its types, and what it reads.
#[derive(Debug)]
pub struct Found {
    pub source: Resolved,
    pub used: Vec<Used>,
    /// What of others than trusted owners runs code, as callstats_worker, when the table is read.
    pub strangers: Vec<String>,
}

/// Looks up what a mapping's expressions give. A plain name of a relation is qualified, because the worker has another
/// search path; names in a join or a sub-select have to be qualified by the operator.
pub fn look_up(transaction: &mut Transaction<'_>, mut mapping: Mapping) -> Result<Found, Error> {
    let mut savepoint = transaction.savepoint("probe").map_err(failed)?;
    if let Some(name) = qualified(&mut savepoint, mapping.expression("relation"))? {
        mapping.set("relation", name);
    }
    savepoint.batch_execute("set local search_path = pg_catalog, pg_temp").map_err(failed)?;
    savepoint.batch_execute(&sql::probe(&mapping)).map_err(|error| {
        Error::new(
            format!("the mapping {} does not fit: {}", mapping.name(), describe(&error)),
            "correct the expressions; in a join or a sub-select, write schema.table",
        )
    })?;
    let mut columns = Vec::new();
    for row in savepoint.query_typed(COLUMNS, &[]).map_err(failed)? {
        columns.push(Column {
            key: row.try_get(0).map_err(failed)?,
            type_name: row.try_get(1).map_err(failed)?,
            collation: row.try_get(2).map_err(failed)?,
            is_deterministic: row.try_get(3).map_err(failed)?,
        });
    }
    let mut used = Vec::new();
    for row in savepoint.query_typed(PRIVILEGES, &[]).map_err(failed)? {
        used.push(Used {
            schema: row.try_get(0).map_err(failed)?,
            relation: row.try_get(1).map_err(failed)?,
            columns: row.try_get(2).map_err(failed)?,
            schema_is_granted: row.try_get(3).map_err(failed)?,
            is_granted: row.try_get(4).map_err(failed)?,
            has_policies: row.try_get(5).map_err(failed)?,
        });
    }
    let strangers = strangers(&mut savepoint)?;
    check_span(&mut savepoint, &mapping)?;
    savepoint.rollback().map_err(failed)?;
    Ok(Found { source: resolve(mapping, &columns)?, used, strangers })
}

fn check_span(transaction: &mut Transaction<'_>, mapping: &Mapping) -> Result<(), Error> {
    let Some(span) = mapping.get("span") else { return Ok(()) };
    let is_positive = transaction
        .query_typed_one("select $1::text::interval > interval '0'", &[(&span, Type::TEXT)])
        .and_then(|row| row.try_get(0));
    if is_positive.unwrap_or(false) {
        return Ok(());
    }
    Err(Error::new(format!("span cannot be {span:?}"), "give an interval above 0, such as '4 hours'"))
}

/// The qualified name, if the text is the name of a relation that exists.
fn qualified(transaction: &mut Transaction<'_>, relation: &str) -> Result<Option<String>, Error> {
    let is_name = |character: char| character.is_alphanumeric() || matches!(character, '_' | '.' | '"' | '$');
    if !relation.trim().chars().all(is_name) {
        return Ok(None);
    }
    // Only this is looked up by the search path of the operator.
    transaction.batch_execute("set local search_path to default").map_err(failed)?;
    let row = transaction
        .query_typed_opt(
            "select pg_catalog.format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_class c
             join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
             where c.oid operator(pg_catalog.=) pg_catalog.to_regclass($1)",
            &[(&relation.trim(), Type::TEXT)],
        )
        .map_err(failed)?;
    row.map(|row| row.try_get(0).map_err(failed)).transpose()
}

/// What of others could run code when pg_temp.callstats_probe is read.
pub fn strangers(transaction: &mut Transaction<'_>) -> Result<Vec<String>, Error> {
    let rows = transaction.query_typed(STRANGERS, &[]).map_err(failed)?;
    rows.iter().map(|row| row.try_get(0).map_err(failed)).collect()
}

/// An error of the database in the middle of a command.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub fn failed(error: postgres::Error) -> Error {
    let hint = error.as_db_error().and_then(|error| error.hint()).unwrap_or_default();
    let hint = match error.code() {
        Some(&SqlState::UNIQUE_VIOLATION) if hint.is_empty() => {
            "something else wrote the same name or id at the same moment, so run this again; if it fails each time, an \
             id of callstats.company, organization or folder was chosen without its sequence"
        }
        _ => hint,
    };
    Error::new(describe(&error), hint)
}
