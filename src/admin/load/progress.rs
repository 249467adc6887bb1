//! Progress on a terminal, and nothing elsewhere. Touches standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The bar of one file. It vanishes when it is dropped.
pub struct Progress {
    bar: ProgressBar,
    read: Arc<AtomicU64>,
}

impl Progress {
    pub fn new(file: &str, length: u64) -> Self {
        // Draws nothing if standard error is no terminal.
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{prefix}: {msg} {wide_bar} {bytes} of {total_bytes}, {eta}") {
            bar.set_style(style);
        }
        bar.set_prefix(file.to_owned());
        bar.set_message("reading");
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, read: Arc::default() }
    }

    /// Where the bytes that are read are counted.
    pub fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.read)
    }

    pub fn update(&self) {
        self.bar.set_position(self.read.load(Ordering::Relaxed));
    }

    /// What is being done once the file is read.
    pub fn step(&self, what: &'static str) {
        if let Ok(style) = ProgressStyle::with_template("{prefix}: {msg} {spinner} {elapsed}") {
            self.bar.set_style(style);
        }
        self.bar.set_message(what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
