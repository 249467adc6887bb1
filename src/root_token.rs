//! The root token: content of a file, read anew for each request, so that a change counts at once. Touches that file.

use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

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
}

impl RootTokenFile {
    /// The file at `path`; nothing is read yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, known: Mutex::default() }
    }

    /// The token that is in the file now. Without one, only company tokens are good.
    pub fn token(&self) -> Option<String> {
        let read = read(&self.path);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
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
        self.known.lock().unwrap_or_else(PoisonError::into_inner).problem = None;
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
