//! The service file and the password file, read as libpq reads them. Touches these two files.

use crate::database::url::conninfo::Pairs;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The options of a service: from the first of these files that has it.
pub fn service(name: &str, files: &[PathBuf]) -> Result<Pairs, String> {
    for path in files {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("cannot read the service file {}: {error}", path.display())),
        };
        if let Some(pairs) = find_service(name, &text, path)? {
            return Ok(pairs);
        }
    }
    let files: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
    Err(format!("its service is defined in none of the service files. Hint: add it to {}", files.join(" or ")))
}

fn find_service(name: &str, text: &str, path: &Path) -> Result<Option<Pairs>, String> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let header = format!("[{name}]");
    if !lines.by_ref().any(|line| line == header) {
        return Ok(None);
    }
    let mut pairs = Vec::new();
    for line in lines.take_while(|line| !line.starts_with('[')) {
        if line.starts_with("ldap") {
            return Err("its service is looked up in LDAP, which is not supported. Hint: write out its options".into());
        }
        let (name, value) =
            line.split_once('=').ok_or_else(|| format!("the service file {} has a syntax error", path.display()))?;
        if name == "service" || name == "servicefile" {
            return Err(format!("the service file {} has a service inside of a service", path.display()));
        }
        pairs.push((name.to_owned(), value.to_owned()));
    }
    Ok(Some(pairs))
}

/// The password of the first line that matches. None as well if others may read the file, which libpq ignores then.
pub fn password(path: &Path, host: &str, port: u16, dbname: &str, user: &str) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_file() {
        return None;
    }
    if metadata.mode() & 0o077 != 0 {
        log::warn!("the password file {} is ignored: others can read it. Hint: chmod 600", path.display());
        return None;
    }
    find_password(&fs::read_to_string(path).ok()?, &[host, &port.to_string(), dbname, user])
}

fn find_password(text: &str, wanted: &[&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut left = line.trim_end_matches('\r');
        for wanted in wanted {
            let (field, rest) = field(left)?;
            if field != *wanted && &left[..left.len() - rest.len() - 1] != "*" {
                return None;
            }
            left = rest;
        }
        let (password, _) = field(left).unwrap_or((unescape(left), ""));
        Some(password).filter(|password| !password.is_empty())
    })
}

/// The text before the next colon, and what is behind it.
fn field(text: &str) -> Option<(String, &str)> {
    let mut is_escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            ':' if !is_escaped => return Some((unescape(&text[..at]), &text[at + 1..])),
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    None
}

fn unescape(text: &str) -> String {
    let mut characters = text.chars();
    let mut plain = String::new();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_that_of_the_first_line_that_matches() {
        let text =
            "# h:1:d:u:comment\nother:*:*:*:no\nh:2:d:u:no\n::1:*:*:*:no\na\\:b:*:*:*:v6\nh:*:*:u:p\\:w\\\\\n*:*:*:*:";
        let find = |host, port, user| find_password(text, &[host, port, "d", user]);
        assert_eq!(find("h", "1", "u").as_deref(), Some("p:w\\"));
        assert_eq!(find("a:b", "1", "u").as_deref(), Some("v6"));
        assert_eq!(find("*", "1", "u"), None);
        assert_eq!(find("h", "1", "v"), None);
    }

    #[test]
    fn a_service_is_a_section() {
        let text = "# x\n[a]\nhost=1\n\n[b]\n host=2 \ndbname=x=y\n[c]\nservice=a\n[d]\nldap://x\n";
        let find = |name| find_service(name, text, Path::new("f"));
        assert_eq!(find("b"), Ok(Some(vec![("host".into(), "2".into()), ("dbname".into(), "x=y".into())])));
        assert_eq!(find("e"), Ok(None));
        assert!(find("c").is_err() && find("d").is_err());
        assert!(service("a", &["/nowhere".into()]).is_err());
    }
}
