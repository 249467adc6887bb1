//! The root token: content of a file, read anew for each request, so that a change counts at once. Touches that file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// No token is anywhere near this long; what is longer is some other file.
const LIMIT_BYTES: u64 = 64 * 1024;

/// The root token file of a worker. Says in the log when it becomes unreadable, and when it is back.
#[derive(Debug)]
pub struct RootTokenFile {
    path: PathBuf,
    problem: Mutex<Option<String>>,
}

impl RootTokenFile {
    /// The file at `path`; nothing is read yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, problem: Mutex::new(None) }
    }

    /// The token that is in the file now. Without one, only company tokens are good.
    pub fn token(&self) -> Option<String> {
        let read = read(&self.path);
        let mut known = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = read.as_ref().err();
        if problem != known.as_ref() {
            match problem {
                Some(problem) => log::warn!("{problem}; until then the root token is refused"),
                None => log::info!("the root token file is in order again"),
            }
            *known = problem.cloned();
        }
        read.ok()
    }
}

/// The token in a file, without the white space around it; or what is wrong and what mends it.
pub fn read(path: &Path) -> Result<String, String> {
    let path_shown = path.display();
    let unreadable = |error| {
        format!(
            "cannot read the root token file {path_shown}: {error}: correct \
        CALLSTATS_ROOT_TOKEN_FILE or let the worker's user read the file"
        )
    };
    // A folder opens like a file, and a pipe would block.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(format!("the root token file {path_shown} is not a file: correct CALLSTATS_ROOT_TOKEN_FILE"));
    }
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(LIMIT_BYTES).read_to_string(&mut text)).map_err(unreadable)?;
    let token = text.trim();
    if token.is_empty() {
        return Err(format!("the root token file {path_shown} is empty: write the token into it"));
    }
    if text.len() as u64 == LIMIT_BYTES {
        return Err(format!(
            "the root token file {path_shown} is too long for a token: correct \
            CALLSTATS_ROOT_TOKEN_FILE"
        ));
    }
    Ok(token.to_owned())
}
