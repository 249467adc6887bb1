//! The two spellings of a connection string, `postgresql://...` and `key=value ...`, as libpq reads them ("Connection
//! Strings" in PostgreSQL's manual). Pure. The errors name options and hold no values, which may be secrets.

use percent_encoding::percent_decode_str;

/// Names and values in the order in which they were given.
pub type Pairs = Vec<(String, String)>;

/// Reads either spelling.
pub fn parse(text: &str) -> Result<Pairs, String> {
    let uri = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
    uri.map_or_else(|| parse_pairs(text), parse_uri)
}

/// What separates pairs: a space of C, not one of Unicode.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}

fn parse_pairs(text: &str) -> Result<Pairs, String> {
    let mut pairs = Vec::new();
    let mut left = text.trim_start_matches(is_space);
    while !left.is_empty() {
        let (name, after) = left.split_once('=').ok_or("it has an option without a value")?;
        let name = name.trim_end_matches(is_space);
        if name.contains(is_space) {
            return Err("it has an option without a value".into());
        }
        let after = after.trim_start_matches(is_space);
        let (value, length) = pair_value(after)?;
        pairs.push((name.to_owned(), value));
        left = after[length..].trim_start_matches(is_space);
    }
    Ok(pairs)
}

/// The value at the start of a text, and how many bytes it takes there.
fn pair_value(text: &str) -> Result<(String, usize), String> {
    let is_quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(is_quoted.into());
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if is_quoted => return Ok((value, at + 1)),
            space if !is_quoted && is_space(space) => return Ok((value, at)),
            other => value.push(other),
        }
    }
    if is_quoted { Err("it has a quote that is not closed".into()) } else { Ok((value, text.len())) }
}

/// `[user[:password]@][host[:port],...][/database][?name=value&...]`
fn parse_uri(text: &str) -> Result<Pairs, String> {
    let mut pairs = Vec::new();
    let mut rest = text;
    // A user may hold any character but these: libpq looks no further for the at sign.
    if let Some(at) = rest.find(['@', '/']).filter(|at| rest[*at..].starts_with('@')) {
        let (user, password) = rest[..at].split_once(':').map_or((&rest[..at], None), |(u, p)| (u, Some(p)));
        if !user.is_empty() {
            pairs.push(("user".into(), decode(user)?));
        }
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            pairs.push(("password".into(), decode(password)?));
        }
        rest = &rest[at + 1..];
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (hosts, ports) = parse_hosts(&rest[..end])?;
    for (name, value) in [("host", hosts), ("port", ports)] {
        if !value.is_empty() {
            pairs.push((name.into(), value));
        }
    }
    rest = &rest[end..];
    if let Some(path) = rest.strip_prefix('/') {
        let end = path.find('?').unwrap_or(path.len());
        if end > 0 {
            pairs.push(("dbname".into(), decode(&path[..end])?));
        }
        rest = &path[end..];
    }
    let query = rest.strip_prefix('?').unwrap_or_default();
    let query = query.strip_suffix('&').unwrap_or(query);
    for pair in query.split('&').take_while(|_| !query.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or("a query parameter of its URI has no value")?;
        if value.contains('=') {
            return Err("a query parameter of its URI has a second equals sign. Hint: write it as %3D".into());
        }
        let (name, value) = (decode(name)?, decode(value)?);
        // As JDBC has it; libpq reads it, too.
        if name == "ssl" && value == "true" {
            pairs.push(("sslmode".into(), "require".into()));
        } else {
            pairs.push((name, value));
        }
    }
    Ok(pairs)
}

/// Hosts and ports of a URI, each as a list with commas.
fn parse_hosts(text: &str) -> Result<(String, String), String> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for entry in text.split(',') {
        let (host, port) = match entry.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']').ok_or("an IPv6 address lacks its closing bracket")?;
                if host.is_empty() {
                    return Err("an IPv6 address is empty".into());
                }
                let port = after.strip_prefix(':').or_else(|| after.is_empty().then_some(""));
                (host, port.ok_or("an IPv6 address is followed by something other than a port")?)
            }
            None => entry.split_once(':').unwrap_or((entry, "")),
        };
        hosts.push(decode(host)?);
        ports.push(decode(port)?);
    }
    Ok((hosts.join(","), ports.join(",")))
}

/// Without spaces around it. Those within have to be escaped, because libpq refuses them.
fn decode(text: &str) -> Result<String, String> {
    let text = text.trim_matches(' ');
    if text.contains(' ') {
        return Err("its URI has a space. Hint: write it as %20".into());
    }
    let mut escapes = text.split('%').skip(1);
    if !escapes.all(|after| after.len() >= 2 && after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())) {
        return Err("it has an invalid percent-escape. Hint: write a percent sign as %25".into());
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| "its percent-escapes are not UTF-8")?;
    if decoded.contains('\0') { Err("it has the escape %00".into()) } else { Ok(decoded.into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match parse(text) {
            Ok(pairs) => pairs.iter().map(|(name, value)| format!("{name}={value};")).collect(),
            Err(error) => format!("! {error}"),
        }
    }

    #[test]
    fn a_string_is_read_as_libpq_reads_it() {
        for (text, expected) in [
            ("", ""),
            ("host=a port = 1", "host=a;port=1;"),
            (r"password='it\'s ' dbname=a\ b", "password=it's ;dbname=a b;"),
            ("host=", "host=;"),
            ("postgresql://", ""),
            ("postgres://u:p%40@h1,h2:5433/db", "user=u;password=p@;host=h1,h2;port=,5433;dbname=db;"),
            ("postgresql://%2Frun%2Fpg/db", "host=/run/pg;dbname=db;"),
            ("postgresql:///db?host=/run/pg&user=x", "dbname=db;host=/run/pg;user=x;"),
            ("postgresql://[::1]:5433,[fe80::1]", "host=::1,fe80::1;port=5433,;"),
            ("postgresql://h?ssl=true", "host=h;sslmode=require;"),
            ("postgresql://:1,:2", "host=,;port=1,2;"),
            ("postgresql:// u @h / db ? user = x &", "user=u;host=h;dbname=db;user=x;"),
            ("host=\u{a0} \u{b}user=x", "host=\u{a0};user=x;"),
            ("postgresql://h/db?application_name=a+b", "host=h;dbname=db;application_name=a+b;"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn invalid_values_are_refused_without_being_shown() {
        for text in [
            "s3cret",
            "host=x s3cret",
            "host x=s3cret",
            "password='s3cret",
            "postgresql://h?s3cret",
            "postgresql://h?password=s3cret=",
            "postgresql://h/%s3cret",
            "postgresql://h/s3cret%00",
            "postgresql://[s3cret/db",
            "postgresql://[::1]s3cret/db",
            "postgresql://[]/s3cret",
            "postgresql://h/s3cret x",
            "postgresql://h?&password=s3cret",
            "postgresql://h?password=s3cret&&user=x",
        ] {
            let error = read(text);
            assert!(error.starts_with('!') && !error.contains("s3cret"), "{text}: {error}");
        }
    }
}
