//! The root token: the content of a file that is read at most once a second. Touches that file and the log.

use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// No token is nearly this long; a longer file is some other one.
const MAX_BYTES: u64 = 64 * 1024;

/// How long a token that was read is used. A new one must count from the next second on.
const MAX_AGE: Duration = Duration::from_millis(900);

/// The root token file of a worker. Logs when it becomes unreadable, and when it is readable again.
#[derive(Debug)]
pub struct RootTokenFile {
    path: PathBuf,
    cached: Mutex<Cached>,
}

#[derive(Debug, Default)]
struct Cached {
    token: Option<String>,
    /// Why there is none.
    problem: Option<String>,
    read_at: Option<Instant>,
}

impl RootTokenFile {
    /// The file at `path`; nothing is read yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, cached: Mutex::default() }
    }

    /// The token. Without one, only company tokens are accepted.
    pub fn token(&self) -> Option<String> {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.read_at.is_some_and(|at| at.elapsed() < MAX_AGE) {
            return cached.token.clone();
        }
        match read(&self.path) {
            Ok(token) => {
                if cached.problem.take().is_some() {
                    log::info!("the root token file is readable again");
                }
                cached.token = Some(token);
            }
            // Out of file descriptors, which is logged already: the last known token is still the best there is.
            Err(error) if error.is_transient => (),
            Err(error) => {
                if cached.problem.as_ref() != Some(&error.message) {
                    log::warn!(
                        "{}; until the file is readable, the root token is refused. Hint: {}",
                        error.message,
                        error.hint
                    );
                }
                cached.problem = Some(error.message);
                cached.token = None;
            }
        }
        cached.read_at = Some(Instant::now());
        cached.token.clone()
    }

    /// Reads the file again and logs the result: the reply to SIGHUP.
    pub fn reload(&self) {
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Cached::default();
        if self.token().is_some() {
            log::info!("reloaded the root token file {}", self.path.display());
        }
    }
}

/// Why there is no root token.
#[derive(Debug)]
pub struct ReadError {
    pub message: String,
    pub hint: &'static str,
    /// It says nothing about the file: this process has no file descriptor left to read it with.
    is_transient: bool,
}

impl ReadError {
    fn new(message: String, hint: &'static str) -> Self {
        Self { message, hint, is_transient: false }
    }
}

/// The token in a file, without the white space around it.
pub fn read(path: &Path) -> Result<String, ReadError> {
    let name = path.display();
    let unreadable = |error: io::Error| ReadError {
        is_transient: matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)),
        ..ReadError::new(
            format!("cannot read the root token file {name}: {error}"),
            "correct CALLSTATS_ROOT_TOKEN_FILE, or let the worker's user read the file",
        )
    };
    // A folder opens like a file, and a pipe would block.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(ReadError::new(
            format!("the root token file {name} is not a regular file"),
            "correct CALLSTATS_ROOT_TOKEN_FILE",
        ));
    }
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text)).map_err(unreadable)?;
    let token = text.trim();
    if token.is_empty() {
        return Err(ReadError::new(format!("the root token file {name} is empty"), "write the token into it"));
    }
    if text.len() as u64 == MAX_BYTES {
        return Err(ReadError::new(
            format!("the root token file {name} is too long for a token"),
            "correct CALLSTATS_ROOT_TOKEN_FILE",
        ));
    }
    Ok(token.to_owned())
}
