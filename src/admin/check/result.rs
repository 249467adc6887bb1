//! The results of checks, and how they are written. Pure.

use crate::api::response::write_json;
use serde::Serialize;

/// The result of one check.
#[derive(Debug)]
pub struct CheckResult {
    pub name: &'static str,
    pub verdict: Verdict,
}

/// What a check found.
#[derive(Debug)]
pub enum Verdict {
    Pass(String),
    /// Not as it should be, but no reason to fail.
    Warn(Problem),
    Fail(Problem),
}

#[derive(Debug)]
pub struct Problem {
    pub message: String,
    pub fix: String,
}

impl Verdict {
    pub fn fail(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Fail(Problem { message: message.into(), fix: fix.into() })
    }

    pub fn warn(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Warn(Problem { message: message.into(), fix: fix.into() })
    }
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A line for each result, for people.
    Lines { in_colour: bool },
    /// One JSON object, for programs.
    Json,
}

/// Whether nothing failed.
pub fn all_passed(results: &[CheckResult]) -> bool {
    !results.iter().any(|result| matches!(result.verdict, Verdict::Fail(_)))
}

/// Writes the results.
pub fn format(results: &[CheckResult], format: Format) -> Vec<u8> {
    match format {
        Format::Lines { in_colour } => results.iter().map(|result| line(result, in_colour)).collect::<String>().into(),
        Format::Json => json(results),
    }
}

fn line(result: &CheckResult, in_colour: bool) -> String {
    let (mark, colour) = match result.verdict {
        Verdict::Pass(_) => ("ok   ", "\x1b[32m"),
        Verdict::Warn(_) => ("WARN ", "\x1b[33m"),
        Verdict::Fail(_) => ("FAIL ", "\x1b[31m"),
    };
    let (colour, reset) = if in_colour { (colour, "\x1b[0m") } else { ("", "") };
    let text = match &result.verdict {
        Verdict::Pass(message) => message.clone(),
        Verdict::Warn(Problem { message, fix }) | Verdict::Fail(Problem { message, fix }) => {
            format!("{message}. Fix: {fix}")
        }
    };
    format!("{colour}{mark}{reset}  {:<15}  {text}\n", result.name)
}

fn json(results: &[CheckResult]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Report<'a> {
        ok: bool,
        checks: Vec<Check<'a>>,
    }
    #[derive(Serialize)]
    struct Check<'a> {
        name: &'a str,
        ok: bool,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        fix: Option<&'a str>,
    }
    let checks = results
        .iter()
        .map(|CheckResult { name, verdict }| match verdict {
            Verdict::Pass(message) => Check { name, ok: true, message, fix: None },
            Verdict::Warn(Problem { message, fix }) => Check { name, ok: true, message, fix: Some(fix) },
            Verdict::Fail(Problem { message, fix }) => Check { name, ok: false, message, fix: Some(fix) },
        })
        .collect();
    let mut bytes = Vec::new();
    write_json(&mut bytes, &Report { ok: all_passed(results), checks });
    bytes.push(b'\n');
    bytes
}
