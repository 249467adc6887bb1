//! What can make the answers of an adopted table other than expected, although its mapping fits. Pure.

use crate::admin::adopt::catalogue::Found;

/// Warnings about a mapping beside all that are on.
pub fn warnings(found: &Found, all: &[Found]) -> Vec<String> {
    let policies = found.used.iter().filter(|used| used.has_policies).map(|used| {
        format!(
            "row level security of {} applies to callstats_worker, so only rows that its policies allow are calls",
            used.relation
        )
    });
    let twins = all.iter().filter(|other| counts_twice(found, other)).map(|other| {
        let name = other.source.mapping.name();
        format!("the mapping {name} reads {} too, so its rows count twice", relation(found))
    });
    policies.chain(twins).collect()
}

/// Whether two mappings take rows of one table. Filters that differ are taken to part the rows.
fn counts_twice(one: &Found, other: &Found) -> bool {
    let filter = |found: &Found| found.source.mapping.get("filter").map(str::to_owned);
    one.source.mapping.name() != other.source.mapping.name()
        && relation(one) == relation(other)
        && (filter(one) == filter(other) || filter(one).is_none() || filter(other).is_none())
}

/// The relation that a mapping reads: of a sub-select of one table, this table.
fn relation(found: &Found) -> &str {
    match found.used.as_slice() {
        [used] => &used.relation,
        _ => found.source.mapping.expression("relation").trim(),
    }
}
