//! Reads tables of the site. A view, a policy, an index or a type can run functions of its owner as the role that
//! reads, and that of `callstats adopt` is often a superuser. Therefore it reads as callstats_worker, in a function
//! that cannot change its role back, and undoes whatever that did to the session. Touches the database.

use crate::admin::adopt::catalogue::{failed, strangers};
use crate::admin::adopt::mapping::Mapping;
use crate::admin::adopt::sql;
use crate::admin::error::Error;
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::types::{ToSql, Type};
use postgres::{Row, Transaction};
use serde_json::Value;

/// Whether the role may act as callstats_worker.
pub const CAN_BE_WORKER: &str = "
    pg_has_role('callstats_worker', case when current_setting('server_version_num')::int >= 160000
                then 'SET' else 'MEMBER' end)";

/// Runs steps, and returns the rows of a statement. All in one call: whoever gains the role on the way may replace the
/// function, but not what runs already.
const FUNCTION: &str = "
    create function pg_temp.callstats_read(steps text[], statement text) returns setof record
    language plpgsql SECURITY set search_path = pg_catalog, pg_temp as $$
    declare
        step text;
    begin
        foreach step in array steps loop
            execute step;
        end loop;
        return query execute statement;
    end
    $$";

const READ: &str = "pg_temp.callstats_read($1, $2)";

/// A role without TEMP can own nothing among temporary objects. Rolled back with the rest.
const GIVE: &str = "
    do $$
    begin
        if not has_database_privilege('callstats_worker', current_database(), 'temporary') then
            execute format('grant temporary on database %I to callstats_worker', current_database());
        end if;
        alter function pg_temp.callstats_read(text[], text) owner to callstats_worker;
    end
    $$";

/// A savepoint in which statements that read the site's tables run; rolled back at its end.
pub struct Reader<'a> {
    savepoint: Transaction<'a>,
}

impl<'a> Reader<'a> {
    /// Takes callstats_worker's privileges. A role that may not act as callstats_worker reads as itself, if all that
    /// could run is of somebody whom it trusts; the view locks the relations against being replaced meanwhile.
    pub fn new(transaction: &'a mut Transaction<'_>, mapping: &Mapping) -> Result<Self, Error> {
        let mut savepoint = transaction.savepoint("callstats_reader").map_err(failed)?;
        let can_be_worker: bool = savepoint
            .query_typed_one(&format!("select {CAN_BE_WORKER}"), &[])
            .and_then(|row| row.try_get(0))
            .map_err(failed)?;
        if can_be_worker {
            savepoint.batch_execute(&FUNCTION.replace("SECURITY", "security definer")).map_err(failed)?;
            savepoint.batch_execute(GIVE).map_err(failed)?;
        } else {
            savepoint.batch_execute(&sql::probe(mapping)).map_err(failed)?;
            if let Some(stranger) = strangers(&mut savepoint)?.first() {
                let name: String = savepoint
                    .query_typed_one("select current_user::text", &[])
                    .and_then(|row| row.try_get(0))
                    .map_err(failed)?;
                return Err(Error::new(
                    format!("the mapping {} reads what is not of a trusted owner, {stranger}", mapping.name()),
                    format!(
                        "let a superuser run this, or: grant callstats_worker to {name}; it is then read as that role"
                    ),
                ));
            }
            savepoint.batch_execute(&FUNCTION.replace("SECURITY", "security invoker")).map_err(failed)?;
        }
        Ok(Self { savepoint })
    }

    /// Creates what the statements need beside the site's tables. Only before the first of them.
    pub fn prepare(&mut self, statements: &str) -> Result<(), Error> {
        self.savepoint.batch_execute(statements).map_err(failed)
    }

    /// The rows of a SELECT of so many columns, each row an array. Nothing can be written.
    pub fn rows(&mut self, statement: &str, columns: usize) -> Result<Vec<Value>, Error> {
        let names: Vec<String> = (0..columns).map(|at| format!("c{at}")).collect();
        let names = names.join(", ");
        let statement = format!("select json_build_array({names})::text from ({statement}) q ({names})");
        let mut rows = Vec::new();
        self.each_row(&statement, "found text", &mut |row| {
            rows.push(parsed(row.try_get(0).map_err(failed)?)?);
            Ok(())
        })?;
        Ok(rows)
    }

    /// The rows of a SELECT whose columns have these names and types, one after the other. Nothing can be written.
    pub fn each_row(
        &mut self,
        statement: &str,
        columns: &str,
        each: &mut dyn FnMut(&Row) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.forbid_writing()?;
        self.read(&[], statement, &format!("select * from {READ} read ({columns})"), each)
    }

    /// What EXPLAIN (FORMAT JSON) has. Nothing can be written.
    pub fn plan(&mut self, explain: &str) -> Result<Value, Error> {
        self.forbid_writing()?;
        self.explain(&[], explain)
    }

    /// The same after steps without a result, which may write to what is temporary. The end of the reader, because the
    /// function may be another one by then.
    pub fn plan_after(mut self, steps: &[String], explain: &str) -> Result<Value, Error> {
        let plan = self.explain(steps, explain);
        self.finish()?;
        plan
    }

    /// Who could write could replace the function, and what it calls next would run as somebody else.
    fn forbid_writing(&mut self) -> Result<(), Error> {
        self.savepoint.batch_execute("set local transaction_read_only = on").map_err(failed)
    }

    fn explain(&mut self, steps: &[String], explain: &str) -> Result<Value, Error> {
        let mut plan = Value::Null;
        self.read(steps, explain, &format!("select found::text from {READ} read (found json)"), &mut |row| {
            plan = parsed(row.try_get(0).map_err(failed)?)?;
            Ok(())
        })?;
        Ok(plan)
    }

    fn read(
        &mut self,
        steps: &[String],
        statement: &str,
        outer: &str,
        each: &mut dyn FnMut(&Row) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // Code of the site may have set another one, which outlasts the call that it ran in.
        self.savepoint.batch_execute("set local search_path = pg_catalog, pg_temp").map_err(failed)?;
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&steps, Type::TEXT_ARRAY), (&statement, Type::TEXT)];
        let mut rows = self.savepoint.query_typed_raw(outer, parameters).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            each(&row)?;
        }
        Ok(())
    }

    /// Undoes everything.
    pub fn finish(self) -> Result<(), Error> {
        self.savepoint.rollback().map_err(failed)
    }
}

fn parsed(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|error| Error::new(error.to_string(), ""))
}

/// A number of a row.
pub fn number(row: &Value, at: usize) -> i64 {
    row.get(at).and_then(Value::as_i64).unwrap_or_default()
}

/// A text of a row; empty for null.
pub fn text(row: &Value, at: usize) -> &str {
    row.get(at).and_then(Value::as_str).unwrap_or_default()
}
