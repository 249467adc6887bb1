//! The service file and the password file, read as libpq reads them. Touches these two files.

use crate::database::url::conninfo::Pairs;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The options of a service: from the first of these files that has it.
pub fn service(name: &str, files: &[PathBuf]) -> Result<Pairs, String> {
    for path in files {
        let text = match fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(), // a comment may have another encoding
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
    let header = format!("[{name}]"); // libpq reads no further
    if !lines.by_ref().any(|line| line.starts_with(&header)) {
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
    let text = String::from_utf8_lossy(&fs::read(path).ok()?).into_owned(); // a comment may have another encoding
    find_password(&text, &[host, &port.to_string(), dbname, user])
}

/// The first line that matches counts, also if its password is empty.
fn find_password(text: &str, wanted: &[&str; 4]) -> Option<String> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let password = lines.find_map(|line| {
        wanted.iter().try_fold(line.trim_end_matches('\r'), |left, wanted| after_field(left, wanted))
    })?;
    let mut characters = password.chars().peekable();
    let mut plain = String::new();
    while let Some(character) = characters.next().filter(|character| *character != ':') {
        let is_escape = character == '\\' && characters.peek().is_some();
        plain.extend(if is_escape { characters.next() } else { Some(character) });
    }
    Some(plain).filter(|password| !password.is_empty())
}

/// What is behind the first field of a line and its colon, if the field is what is wanted. As in libpq, a colon that is
/// wanted need not be escaped.
fn after_field<'a>(line: &'a str, wanted: &str) -> Option<&'a str> {
    if let Some(rest) = line.strip_prefix("*:") {
        return Some(rest);
    }
    let mut left = line.chars();
    for character in wanted.chars() {
        let found = left.next().map(|found| if found == '\\' { left.next() } else { Some(found) });
        if found.flatten() != Some(character) {
            return None;
        }
    }
    left.as_str().strip_prefix(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_that_of_the_first_line_that_matches() {
        let text = "# h:1:d:u:comment\nother:*:*:*:no\nh:2:d:u:no\na\\:b:*:*:*:v6\n::1:*:d:u:\\:\\ü:x\n\
                    e:1:d:u:\ne:*:*:*:late\nh:*:*:u:p\\:w\\\\\nb:*:*:*:end\\\n*:*:*:*:";
        let find = |host, port, user| find_password(text, &[host, port, "d", user]);
        assert_eq!(find("h", "1", "u").as_deref(), Some("p:w\\"));
        assert_eq!(find("a:b", "1", "u").as_deref(), Some("v6"));
        assert_eq!(find("::1", "1", "u").as_deref(), Some(":ü"));
        assert_eq!(find("b", "1", "u").as_deref(), Some("end\\"));
        assert_eq!(find("e", "1", "u"), None, "the first line counts");
        assert_eq!(find("e", "2", "u").as_deref(), Some("late"));
        assert_eq!(find("*", "1", "u"), None);
        assert_eq!(find("h", "1", "v"), None);
        assert_eq!(find_password("h:1:d:u", &["h", "1", "d", "u"]), None);
    }

    #[test]
    fn a_service_is_a_section() {
        let text = "# x\n[a]\nhost=1\n\n[b] x\n host=2 \ndbname=x=y\n[c]\nservice=a\n[d]\nldap://x\n";
        let find = |name| find_service(name, text, Path::new("f"));
        assert_eq!(find("b"), Ok(Some(vec![("host".into(), "2".into()), ("dbname".into(), "x=y".into())])));
        assert_eq!(find("e"), Ok(None));
        assert!(find("c").is_err() && find("d").is_err());
        assert!(service("a", &["/nowhere".into()]).is_err());
    }
}
