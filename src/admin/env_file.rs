//! The environment of the worker for a command that an operator types: the process's own, and what the worker's env
//! file adds. Touches that file. Its syntax is that of `EnvironmentFile=` (systemd.exec(5)).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::iter::Peekable;
use std::path::Path;
use std::str::Chars;

/// Read if no other file is given.
const DEFAULT: &str = "/etc/callstats/callstats.env";

/// The variables of the process. If `DATABASE_URL` is not among them, or a file is given, those of the file come first.
pub fn environment(file: Option<&Path>) -> Result<BTreeMap<OsString, OsString>, String> {
    let own: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    if file.is_none() && own.contains_key(&OsString::from("DATABASE_URL")) {
        return Ok(own);
    }
    let path = file.unwrap_or(Path::new(DEFAULT));
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => return Ok(own),
        Err(error) => {
            return Err(format!(
                "cannot read the environment file {}: {error}. Hint: run this as a user who may, or give --env-file",
                path.display()
            ));
        }
    };
    let mut variables: BTreeMap<OsString, OsString> =
        parse(&text).into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    variables.extend(own);
    Ok(variables)
}

/// The assignments of an environment file. Lines without one are ignored, as systemd does.
fn parse(text: &str) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut rest = text.chars().peekable();
    while rest.peek().is_some() {
        while rest.next_if(|character| character.is_whitespace()).is_some() {}
        let is_comment = rest.peek().is_some_and(|character| matches!(character, '#' | ';'));
        let mut name = String::new();
        let mut has_value = false;
        while let Some(character) = rest.next_if(|character| *character != '\n') {
            if character == '=' && !is_comment {
                has_value = true;
                break;
            }
            name.push(character);
        }
        if has_value {
            variables.push((name.trim().to_owned(), value(&mut rest)));
        }
    }
    variables
}

/// A value: quoted and unquoted parts up to the end of the line.
fn value(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut value = String::new();
    let mut kept = 0; // white space after it is at the end of the line, and not part of the value
    let mut quote = None;
    while rest.next_if(|character| matches!(character, ' ' | '\t')).is_some() {}
    while let Some(character) = rest.next() {
        match (character, quote) {
            ('\n', None) => break,
            ('\\', Some('\'')) => value.push('\\'),
            ('\\', Some(_)) => match rest.next() {
                Some('\n') | None => (),
                Some(escaped) if matches!(escaped, '"' | '\\' | '`' | '$') => value.push(escaped),
                Some(other) => value.extend(['\\', other]),
            },
            ('\\', None) => match rest.next() {
                Some('\n') | None => (),
                Some(escaped) => value.push(escaped),
            },
            (end, Some(open)) if end == open => quote = None,
            (open @ ('"' | '\''), None) => quote = Some(open),
            (space, None) if space.is_whitespace() => {
                value.push(space);
                continue;
            }
            (other, _) => value.push(other),
        }
        kept = value.len();
    }
    value.truncate(kept);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_systemd_reads_them() {
        for (text, expected) in [
            ("A=host=/run dbname=calls user=x  \n", "host=/run dbname=calls user=x"),
            ("A=\"host=/run dbname=calls\"", "host=/run dbname=calls"),
            ("A='it is $HOME `x` \\n'\n", "it is $HOME `x` \\n"),
            ("A=\"a\\\"b\\$c\\d\"\n", "a\"b$c\\d"),
            ("A=a\\\nb\n", "ab"),
            ("A=one 'two  '\"three\"\n", "one two  three"),
            ("  A = b # not a comment\r\n", "b # not a comment"),
            ("A=postgresql://u:p%40@h/db?a=b&c=d\n", "postgresql://u:p%40@h/db?a=b&c=d"),
            ("A=\n", ""),
        ] {
            assert_eq!(parse(text), [("A".to_owned(), expected.to_owned())], "{text:?}");
        }
        assert_eq!(parse("# A=b\n; A=b\n\nnothing\n"), []);
        assert_eq!(parse("A=1\n#B=2\nC=3").len(), 2);
    }
}
