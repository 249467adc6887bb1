//! The types that expressions had when their mapping was resolved, and the SQL that fails if they have others. Pure.

use crate::admin::adopt::mapping::Mapping;

/// An expression whose type decides how it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    pub key: &'static str,
    /// The name of a type; one for all types that are read alike.
    pub type_name: &'static str,
    expression: String,
    is_widened: bool,
}

impl Expected {
    pub fn new(mapping: &Mapping, key: &'static str, type_name: &str) -> Option<Self> {
        let (type_name, is_widened) = match type_name {
            "text" | "character varying" => ("text", true),
            "character" => ("bpchar", false),
            "timestamp with time zone" => ("timestamptz", false),
            "timestamp without time zone" => ("timestamp", false),
            "date" => ("date", false),
            "interval" => ("interval", false),
            "time without time zone" => ("time", false),
            // All numbers are read alike, and compared with numbers, which other types cannot be.
            _ => return None,
        };
        Some(Self { key, type_name, expression: mapping.expression(key).to_owned(), is_widened })
    }

    /// A condition that is an error while the statement is analyzed unless the expression has the type. The planner
    /// folds it to true. Two polymorphic arguments have to be of one type, which nothing is converted to; COALESCE
    /// turns a domain into the type under it, and converts only to the wider of two types.
    pub fn condition(&self) -> String {
        let Self { type_name, expression, .. } = self;
        let value = if self.is_widened {
            format!("coalesce(null::{type_name}, ({expression}))")
        } else {
            format!("coalesce(({expression}), null)")
        };
        format!("callstats.has_type({value}, null::{type_name})")
    }
}
