//! Files without a name, for what memory should not hold. Touches the folder of temporary files.

use std::fs::File;
use std::io;

/// For the operator, when one cannot be written.
pub const HINT: &str = "make room in TMPDIR, or in /var/tmp if that is not set";

/// An empty one. /tmp is memory on many systems.
pub fn file() -> io::Result<File> {
    let folder = std::env::var_os("TMPDIR").filter(|folder| !folder.is_empty()).unwrap_or_else(|| "/var/tmp".into());
    tempfile::tempfile_in(folder)
}
