//! What a signal reports when it ends a command that writes. Touches signals, `/proc` and standard error.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How far the command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Nothing,
    Working,
    Committing,
}

/// The report for each step.
#[derive(Debug, Clone, Copy)]
pub struct Texts {
    pub working: &'static str,
    pub committing: &'static str,
}

#[derive(Debug, Clone)]
pub struct Progress(Arc<AtomicU8>);

impl Progress {
    /// From now on a signal reports what became of the work, and then ends the process as it does by itself. The server
    /// rolls back what was not committed. A signal that was ignored at the start, as with nohup, stays ignored.
    pub fn watch(texts: Texts) -> Self {
        let progress = Self(Arc::new(AtomicU8::new(Step::Nothing as u8)));
        // Without it, the process ends all the same.
        let ignored = ignored_signals();
        let heeded = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
        let Ok(mut signals) = Signals::new(heeded) else { return progress };
        let step = Arc::clone(&progress.0);
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let step = step.load(Ordering::SeqCst);
                let what = if step == Step::Committing as u8 {
                    texts.committing
                } else if step == Step::Working as u8 {
                    texts.working
                } else {
                    "interrupted"
                };
                let _ = writeln!(io::stderr(), "\rcallstats: {what}");
                let _ = emulate_default_handler(signal);
            }
        });
        progress
    }

    pub fn set(&self, step: Step) {
        self.0.store(step as u8, Ordering::SeqCst);
    }
}

/// The signals that this process ignores, as bits from the lowest: proc(5), `SigIgn`.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or_default()
}
