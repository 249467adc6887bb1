//! The commit of `callstats --version`: that of `SOURCE_COMMIT` in the environment, of the checkout, or of the archive
//! that git made. A build without any of them, or without git, works too. Touches git, reading.

use std::path::Path;
use std::process::Command;

/// What the executable is made of: a change of it is one that the version shows.
const SOURCES: [&str; 6] = ["Cargo.lock", "Cargo.toml", "build.rs", "deploy/*.sql", "fastcgi", "src"];

/// `git archive` puts the commit here (.gitattributes).
const ARCHIVED: &str = "$Format:%H$";

fn main() {
    println!("cargo:rerun-if-env-changed=SOURCE_COMMIT");
    for path in SOURCES {
        match path.strip_suffix("/*.sql") {
            Some(folder) => scripts(Path::new(folder)),
            None => println!("cargo:rerun-if-changed={path}"),
        }
    }
    let given = std::env::var("SOURCE_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.map(|commit| short(&commit)).or_else(checked_out).or_else(archived);
    println!("cargo:rustc-env=BUILD_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

fn scripts(folder: &Path) {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "sql") {
            println!("cargo:rerun-if-changed={}", entry.path().display());
        }
    }
}

/// The same digits whatever git would shorten it to, so that a build is the same in every clone.
fn short(commit: &str) -> String {
    commit.chars().filter(char::is_ascii_alphanumeric).take(12).collect()
}

/// The commit of a checkout that has its top in this folder: an archive may lie in somebody else's.
fn checked_out() -> Option<String> {
    if !git(&["rev-parse", "--show-cdup"])?.is_empty() {
        return None;
    }
    // It changes with each commit and checkout.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo:rerun-if-changed={log}");
    }
    let commit = short(&git(&["rev-parse", "HEAD"])?);
    let changes = git(&[&["--no-optional-locks", "status", "--porcelain", "--"][..], &SOURCES].concat())?;
    Some(if changes.is_empty() { commit } else { format!("{commit}, modified") })
}

fn archived() -> Option<String> {
    (!ARCHIVED.starts_with('$')).then(|| short(ARCHIVED))
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
