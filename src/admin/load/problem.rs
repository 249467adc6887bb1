//! What is wrong with a record, and where. Pure.

use crate::admin::name::shown;
use std::fmt::Write;

/// How many are reported.
const SHOWN: usize = 10;

/// Why a value, or a record, cannot become a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Empty: the whole record.
    pub column: String,
    pub value: Option<String>,
    pub reason: String,
    pub hint: String,
}

impl Problem {
    pub fn of_record(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { column: String::new(), value: None, reason: reason.into(), hint: hint.into() }
    }

    pub fn of_value(column: &str, value: &str, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { column: column.into(), value: Some(value.into()), reason: reason.into(), hint: hint.into() }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.column.is_empty() {
            let _ = write!(text, ", column {}", self.column); // writing to a string cannot fail
        }
        if let Some(value) = &self.value {
            let _ = write!(text, ": {}", shown(value));
        }
        let _ = write!(text, ": {}", self.reason);
        text
    }
}

/// All problems of a file: the first ones, and how many there are.
#[derive(Debug, Default)]
pub struct Problems {
    first: Vec<(u64, Problem)>,
    count: u64,
}

impl Problems {
    pub fn add(&mut self, line: u64, problem: Problem) {
        self.count += 1;
        self.first.push((line, problem));
        self.first.sort_by_key(|(line, _)| *line);
        self.first.truncate(SHOWN);
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds those of another part of the work.
    pub fn append(&mut self, other: Self) {
        let count = self.count + other.count;
        for (line, problem) in other.first {
            self.add(line, problem);
        }
        self.count = count;
    }

    /// A line for each, the first with the hint of the first.
    pub fn message(&self, file: &str) -> (String, String) {
        let lines: Vec<String> =
            self.first.iter().map(|(line, problem)| format!("{file} line {line}{}", problem.text())).collect();
        let mut message = lines.join("\n");
        let more = self.count - self.first.len() as u64;
        if more > 0 {
            let _ = write!(message, "\nand {more} more"); // writing to a string cannot fail
        }
        let hint = self.first.first().map(|(_, problem)| problem.hint.clone()).unwrap_or_default();
        (message, hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_told_in_the_order_of_lines_and_the_rest_counted() {
        let mut problems = Problems::default();
        for line in (1..=12).rev() {
            problems.add(line, Problem::of_value("start", "a\nb", format!("reason {line}"), "hint"));
        }
        let (message, hint) = problems.message("x.csv");
        assert!(message.starts_with("x.csv line 1, column start: \"a\\nb\": reason 1\nx.csv line 2,"), "{message}");
        assert!(message.ends_with("reason 10\nand 2 more") && hint == "hint", "{message}");
    }
}
