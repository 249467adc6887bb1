//! The root token: content of a file, looked at for each request, so that a change counts at once. Touches that file.

use rustix::io::Errno;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// No token is anywhere near this long; what is longer is some other file.
const LIMIT_BYTES: u64 = 64 * 1024;

/// The root token file of a worker. Says in the log when it becomes unreadable, and when it is back.
#[derive(Debug)]
pub struct RootTokenFile {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    token: Option<String>,
    problem: Option<String>,
    /// Of the file that the token is from.
    stamp: Option<Stamp>,
}

/// What changes with a file.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    length: u64,
    modified: (i64, i64),
    /// Nobody can set this one back.
    changed: (i64, i64),
}

impl Stamp {
    fn new(found: &Metadata) -> Self {
        Self {
            file: (found.dev(), found.ino()),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// Whether the next change is sure to have another time than this one had.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        i64::try_from(now).is_ok_and(|now| now > self.changed.0 + 1)
    }
}

impl RootTokenFile {
    /// The file at `path`; nothing is read yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, known: Mutex::default() }
    }

    /// The token that is in the file now. Without one, only company tokens are good.
    pub fn token(&self) -> Option<String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Where the file is just as it was, so is its content; unless it changed so lately that its times cannot tell.
        let stamp = self.path.metadata().ok().map(|found| Stamp::new(&found));
        if stamp.is_some() && stamp == known.stamp {
            return known.token.clone();
        }
        let read = read(&self.path);
        known.stamp = stamp.filter(|stamp| read.is_ok() && stamp.is_settled());
        match &read {
            Ok(token) => {
                if known.problem.take().is_some() {
                    log::info!("the root token file is in order again");
                }
                known.token = Some(token.clone());
            }
            // The accept loop has said what ran out; the token of a moment ago is still the best there is.
            Err(problem) if problem.is_passing => (),
            Err(problem) => {
                if known.problem.as_deref() != Some(&problem.text) {
                    log::warn!("{}", problem.text);
                }
                known.problem = Some(problem.text.clone());
                known.token = None;
            }
        }
        known.token.clone()
    }

    /// Says what is in the log again: the answer to SIGHUP, for the file is read for each request anyway.
    pub fn reload(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Known::default();
        if self.token().is_some() {
            log::info!("the root token file {} was read again", self.path.display());
        }
    }
}

/// Why there is no root token.
#[derive(Debug)]
pub struct Problem {
    /// What happened and what mends it.
    pub text: String,
    /// It tells nothing about the file: this process has no descriptor left to read it with.
    is_passing: bool,
}

impl Problem {
    fn new(text: String) -> Self {
        Self { text: format!("{text}; until then the root token is refused"), is_passing: false }
    }
}

/// The token in a file, without the white space around it.
pub fn read(path: &Path) -> Result<String, Problem> {
    let name = path.display();
    let unreadable = |error: io::Error| Problem {
        is_passing: matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)),
        ..Problem::new(format!(
            "cannot read the root token file {name}: {error}: correct CALLSTATS_ROOT_TOKEN_FILE, or let the worker's \
             user read the file"
        ))
    };
    // A folder opens like a file, and a pipe would block.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(Problem::new(format!(
            "the root token file {name} is not a file: correct CALLSTATS_ROOT_TOKEN_FILE"
        )));
    }
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(LIMIT_BYTES).read_to_string(&mut text)).map_err(unreadable)?;
    let token = text.trim();
    if token.is_empty() {
        return Err(Problem::new(format!("the root token file {name} is empty: write the token into it")));
    }
    if text.len() as u64 == LIMIT_BYTES {
        return Err(Problem::new(format!(
            "the root token file {name} is too long for a token: correct CALLSTATS_ROOT_TOKEN_FILE"
        )));
    }
    Ok(token.to_owned())
}
