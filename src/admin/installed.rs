//! Where the files are that fixes name: a command must exist on the machine where it is read. Touches the file system,
//! reading.

use std::path::{Path, PathBuf};

/// The folder of the package.
const PACKAGE: &str = "/usr/share/callstats";

/// The path of a file of `deploy/`: in the package if it is installed, else in the checkout that built this executable.
pub fn deploy_file(name: &str) -> PathBuf {
    let in_package = Path::new(PACKAGE).join(name);
    if in_package.exists() {
        return in_package;
    }
    let executable = std::env::current_exe().unwrap_or_default();
    let in_checkout = executable.ancestors().map(|folder| folder.join("deploy").join(name)).find(|path| path.exists());
    in_checkout.unwrap_or(in_package)
}

/// The command that runs an SQL file of `deploy/`.
pub fn psql(name: &str) -> String {
    format!("psql -X -v ON_ERROR_STOP=1 -d DATABASE -f {}", deploy_file(name).display())
}
