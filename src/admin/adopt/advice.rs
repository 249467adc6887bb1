//! Which index a mapping has, and which it should have. An index is named only if the planner used it on a temporary
//! copy of a sample. Touches the database; nothing of it remains.

use crate::admin::adopt::calls_between;
use crate::admin::adopt::catalogue::{Found, failed};
use crate::admin::adopt::reader::{CAN_BE_WORKER, Reader};
use crate::admin::adopt::types::Resolved;
use crate::admin::error::Error;
use postgres::Transaction;
use postgres::types::Type;
use serde_json::Value;

/// How a day of a mapping is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Index {
    /// All rows are.
    None,
    /// Those of the day.
    OfStart,
    /// Those of the day and the organization.
    OfNames,
}

/// The end of the advice for a table of which a day reads all rows.
pub const READS_DAYS: &str = ": reads the rows of the days alone";
const READS_NAMES: &str = ": reads the rows of the days and the organization alone";

/// Rows that an index is tried on.
const SAMPLE: u32 = 100_000;

/// The index by which the planner would read a day. A foreign server is not asked day by day: it would not get the
/// boundaries.
pub fn index(transaction: &mut Transaction<'_>, source: &Resolved) -> Result<Index, Error> {
    let mut reader = Reader::new(transaction, &source.mapping)?;
    let trial = calls_between::trial(source, source.mapping.expression("relation"));
    reader.prepare(&format!("set local enable_seqscan = off; {trial}"))?;
    let plan = reader.plan(EXPLAIN)?;
    reader.finish()?;
    Ok(used_index(&plan, source, None))
}

const EXPLAIN: &str = "explain (format json) select * from pg_temp.callstats_trial(1, current_date, current_date)";

/// The best use of an index in a plan, of one of this name alone if there is one.
fn used_index(plan: &Value, source: &Resolved, name: Option<&str>) -> Index {
    match plan {
        Value::Array(plans) => plans.iter().map(|plan| used_index(plan, source, name)).max().unwrap_or(Index::None),
        Value::Object(fields) => {
            let text = |key: &str| fields.get(key).and_then(|value| value.as_str()).unwrap_or_default();
            let condition = text("Index Cond");
            // The names are those of sub-selects, which servers before 17 write as $1.
            let of_names = |part: &&str| part.contains("InitPlan") || part.contains('$');
            let names = names(source).len();
            let own = if !condition.contains("z.callstats_") || name.is_some_and(|name| name != text("Index Name")) {
                Index::None
            } else if names > 0 && condition.split(" AND ").filter(of_names).count() >= names {
                Index::OfNames
            } else {
                Index::OfStart
            };
            fields.values().map(|field| used_index(field, source, name)).max().unwrap_or(Index::None).max(own)
        }
        _ => Index::None,
    }
}

/// The statements that create better indexes than a mapping has, with what each is good for; the best one first.
pub fn advice(transaction: &mut Transaction<'_>, found: &Found) -> Result<Vec<String>, Error> {
    if let Some(table) = mysql_table(transaction, found)? {
        return Ok(table);
    }
    let has = index(transaction, &found.source)?;
    let Some(create) = create(transaction, found)? else {
        let relation = found.source.mapping.expression("relation");
        let advice = format!("an index on the start, in the table below {relation}{READS_DAYS}");
        return Ok(if has == Index::None { vec![advice] } else { Vec::new() });
    };
    let mut advice = Vec::new();
    // Of a single organization the names select nothing.
    let has_several: bool = transaction
        .query_typed_one("select count(*) > 1 from callstats.organization", &[])
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
    let columns = if has_several && has < Index::OfNames { by_names(found) } else { None };
    if let Some(columns) = columns {
        let rest = covering(found).filter(|rest| !rest.is_empty());
        let with_rest = rest.map(|rest| format!("{columns} include ({rest})"));
        for columns in with_rest.into_iter().chain([columns]) {
            if try_index(transaction, found, &columns)? == Index::OfNames {
                advice.push(format!("{create} {columns}{READS_NAMES}"));
                break;
            }
        }
    }
    if has < Index::OfStart {
        let columns = format!("({})", key(&found.source.start_sql));
        if try_index(transaction, found, &columns)? >= Index::OfStart {
            advice.push(format!("{create} {columns}{READS_DAYS}"));
        }
    }
    Ok(advice)
}

/// The statement up to its columns; none for what can have no index, such as a view or a join.
fn create(transaction: &mut Transaction<'_>, found: &Found) -> Result<Option<String>, Error> {
    let [used] = found.used.as_slice() else { return Ok(None) };
    let relation = found.source.mapping.expression("relation").trim();
    let is_name = |character: char| character.is_alphanumeric() || "_.\"".contains(character);
    if relation != used.relation && !relation.chars().all(is_name) {
        return Ok(None); // such as a join
    }
    let kind = transaction
        .query_typed_opt(
            "select relkind::text from pg_class where oid = to_regclass($1) and oid = to_regclass($2)",
            &[(&used.relation, Type::TEXT), (&relation, Type::TEXT)],
        )
        .and_then(|row| row.map(|row| row.try_get::<_, String>(0)).transpose())
        .map_err(failed)?;
    Ok(match kind.as_deref() {
        Some("r" | "m") => Some(format!("create index concurrently on {relation}")),
        // It cannot be made concurrently, and keeps writers out for as long as it takes.
        Some("p") => Some(format!("create index on {relation}")),
        _ => None,
    })
}

/// An expression as an index has it.
fn key(expression: &str) -> String {
    let expression = expression.trim();
    if is_column(expression) { expression.to_owned() } else { format!("({expression})") }
}

fn is_column(expression: &str) -> bool {
    let is_part = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_';
    expression.trim().chars().all(is_part) && !expression.trim().starts_with(|first: char| first.is_ascii_digit())
}

/// The names that a row has for itself: a constant has no place in an index, and rows that are folded get theirs later.
fn names(source: &Resolved) -> Vec<&str> {
    if source.mapping.get("call").is_some() {
        return Vec::new();
    }
    let is_constant = |text: &str| text.trim().starts_with('\'') && text.trim().ends_with('\'');
    ["company", "organization"]
        .into_iter()
        .map(|key| source.mapping.expression(key))
        .filter(|expression| !is_constant(expression))
        .collect()
}

/// The columns of the index that leads by the site's own names.
fn by_names(found: &Found) -> Option<String> {
    let names = names(&found.source);
    if names.is_empty() {
        return None;
    }
    let keys: Vec<String> = names.into_iter().chain([found.source.start_sql.as_str()]).map(key).collect();
    Some(format!("({})", keys.join(", ")))
}

/// The other columns that the mapping reads, if an index with them saves the way to the table.
fn covering(found: &Found) -> Option<String> {
    let [used] = found.used.as_slice() else { return None };
    let keys: Vec<&str> = names(&found.source).into_iter().chain([found.source.start_sql.as_str()]).collect();
    if !keys.iter().all(|key| is_column(key)) {
        return None;
    }
    let rest: Vec<&str> = used
        .columns
        .iter()
        .map(String::as_str)
        .filter(|column| !keys.iter().any(|key| key.trim() == *column))
        .collect();
    Some(rest.join(", "))
}

/// How the planner uses an index with such columns, on a copy of a sample.
fn try_index(transaction: &mut Transaction<'_>, found: &Found, columns: &str) -> Result<Index, Error> {
    let source = &found.source;
    // The worker may read the columns that the mapping uses, and no others.
    let used: Vec<&str> = found.used.iter().flat_map(|used| &used.columns).map(String::as_str).collect();
    let used = if used.is_empty() { "*".to_owned() } else { used.join(", ") };
    let sample = format!("select {used} from {}", source.mapping.expression("relation"));
    let mut reader = Reader::new(transaction, &source.mapping)?;
    let prepared = reader.prepare(&format!(
        "create temporary view callstats_columns as {sample};
         create temporary table callstats_sample (like callstats_columns); drop view pg_temp.callstats_columns;
         do $$ begin
             if {CAN_BE_WORKER} then
                 alter table pg_temp.callstats_sample owner to callstats_worker;
             end if;
         end $$;
         set local enable_seqscan = off; {}",
        calls_between::trial(source, "pg_temp.callstats_sample")
    ));
    if prepared.is_err() {
        reader.finish()?;
        return Ok(Index::None);
    }
    let steps = [
        format!("insert into pg_temp.callstats_sample {sample} limit {SAMPLE}"),
        format!("create index callstats_sample_index on pg_temp.callstats_sample {columns}"),
        "analyze pg_temp.callstats_sample".to_owned(),
    ];
    let plan = reader.plan_after(&steps, EXPLAIN);
    Ok(plan.map_or(Index::None, |plan| used_index(&plan, source, Some("callstats_sample_index"))))
}

/// The advice for a table that is MySQL's: an index here is none there.
fn mysql_table(transaction: &mut Transaction<'_>, found: &Found) -> Result<Option<Vec<String>>, Error> {
    let [used] = found.used.as_slice() else { return Ok(None) };
    let row = transaction
        .query_typed_opt(
            "select (select option_value from pg_options_to_table(t.ftoptions) where option_name = 'dbname'),
                    coalesce((select option_value from pg_options_to_table(t.ftoptions)
                              where option_name = 'table_name'), c.relname),
                    (select coalesce((select option_value from pg_options_to_table(a.attfdwoptions)
                                      where option_name = 'column_name'), a.attname)
                     from pg_attribute a where a.attrelid = c.oid and quote_ident(a.attname) = $2)
             from pg_foreign_table t join pg_class c on c.oid = t.ftrelid
             join pg_foreign_server s on s.oid = t.ftserver join pg_foreign_data_wrapper w on w.oid = s.srvfdw
             where w.fdwname = 'mysql_fdw' and c.oid = to_regclass($1)",
            &[(&used.relation, Type::TEXT), (&found.source.start_sql.trim(), Type::TEXT)],
        )
        .map_err(failed)?;
    let Some(row) = row else { return Ok(None) };
    let texts: [Option<String>; 3] =
        [row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?, row.try_get(2).map_err(failed)?];
    let [Some(database), Some(table), Some(column)] = texts.map(|text| text.map(|text| text.replace('`', "``"))) else {
        return Ok(Some(Vec::new()));
    };
    Ok(Some(vec![format!(
        "create index callstats_start on `{database}`.`{table}` (`{column}`): in MySQL, unless the table has one that \
         starts with this column"
    )]))
}
