//! The log on standard error: lines with time and level, or for the journal, which has both of its own, lines with a
//! priority. Touches standard error and the environment.

use crate::config::check_log_filter;
use std::io::Write;

/// Starts the log; `RUST_LOG` filters it. One that hides errors is refused, and must not hide that.
pub fn start() {
    let filter = std::env::var("RUST_LOG").unwrap_or_default();
    let is_usable = !filter.is_empty() && check_log_filter(&filter).is_ok();
    let mut builder = env_logger::Builder::new();
    // Errors of all modules, whatever the filter does not name.
    builder.filter_level(log::LevelFilter::Error).parse_filters(if is_usable { &filter } else { "info" });
    if is_journal() {
        builder.format(|line, record| {
            let (priority, target) = (priority(record.level()), record.target());
            match target.split("::").next() {
                Some("callstats") => writeln!(line, "<{priority}>{}", record.args()),
                _ => writeln!(line, "<{priority}>{target}: {}", record.args()),
            }
        });
    }
    builder.init();
}

/// Whether standard error is the journal's: systemd.exec(5) has `JOURNAL_STREAM`. The variable alone is not enough,
/// for a process passes it on to those whose standard error is elsewhere.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(std::io::stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// The priorities of sd-daemon(3).
fn priority(level: log::Level) -> u8 {
    match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    }
}
