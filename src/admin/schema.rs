//! `callstats schema`: the SQL files of deploy/, which are in the executable. Touches the database.

use crate::admin::error::Error;
use crate::admin::{Output, output};
use crate::cli::{SchemaCommand, Script};
use clap::ValueEnum;
use postgres::Client;
use serde::Serialize;

/// The version of `schema.sql` that this executable brings.
pub const VERSION: i32 = 2;

const INSTALLED: &str = include_str!("sql/schema_installed.sql");

/// The text of a file.
pub fn text(script: Script) -> &'static str {
    match script {
        Script::Schema => include_str!("../../deploy/schema.sql"),
        Script::Rollup => include_str!("../../deploy/rollup.sql"),
        Script::RollupRemove => include_str!("../../deploy/rollup-remove.sql"),
        Script::Partitions => include_str!("../../deploy/partitions.sql"),
        Script::Shards => include_str!("../../deploy/shards.sql"),
        Script::Adopt => include_str!("../../deploy/adopt.sql"),
    }
}

/// The name of a file, as it is typed.
fn name(script: Script) -> String {
    script.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Runs the command.
pub fn run(command: &SchemaCommand, client: &mut Client, out: &mut Output<'_>) -> Result<(), Error> {
    match command {
        SchemaCommand::Install { script, json } => install(*script, *json, client, out),
        SchemaCommand::Print { script } => output::text(out.stdout, text(*script)),
        SchemaCommand::Version { json } => version(*json, client, out),
    }
}

#[derive(Serialize)]
struct Installed {
    /// None: there is no schema.
    version: Option<i32>,
    available: i32,
    rollup: bool,
    partitions: bool,
    shards: bool,
    adopt: bool,
}

fn installed(client: &mut Client) -> Result<Installed, Error> {
    let mut found =
        Installed { version: None, available: VERSION, rollup: false, partitions: false, shards: false, adopt: false };
    let exists: bool =
        client.query_one("select to_regclass('callstats.schema_version') is not null", &[])?.try_get(0)?;
    if exists {
        let row = client.query_one(INSTALLED, &[])?;
        found.version = row.try_get("version")?;
        found.rollup = row.try_get("rollup")?;
        found.partitions = row.try_get("partitions")?;
        found.shards = row.try_get("shards")?;
        found.adopt = row.try_get("adopt")?;
    }
    Ok(found)
}

fn version(json: bool, client: &mut Client, out: &mut Output<'_>) -> Result<(), Error> {
    let found = installed(client)?;
    if json {
        output::json(out.stdout, &found)?;
    } else if let Some(version) = found.version {
        let extensions = [
            ("rollup", found.rollup),
            ("partitions", found.partitions),
            ("shards", found.shards),
            ("adopt", found.adopt),
        ];
        let names: Vec<&str> = extensions.iter().filter(|(_, is_there)| *is_there).map(|(name, _)| *name).collect();
        let with = if names.is_empty() { String::new() } else { format!(", with {}", names.join(", ")) };
        output::text(out.stdout, &format!("version {version}{with}; this executable has version {VERSION}\n"))?;
    }
    match found.version {
        Some(VERSION) => Ok(()),
        Some(newer) if newer > VERSION => {
            Err(Error::new("the schema is newer than this executable", "upgrade callstats"))
        }
        Some(_) => Err(Error::new("the schema is older than this executable", "callstats schema install")),
        None => Err(Error::new("the schema callstats does not exist", "callstats schema install")),
    }
}

fn install(script: Script, json: bool, client: &mut Client, out: &mut Output<'_>) -> Result<(), Error> {
    #[derive(Serialize)]
    struct Done {
        script: String,
        version: Option<i32>,
    }
    let name = name(script);
    for statement in statements(text(script)) {
        client.batch_execute(statement.text).map_err(|error| {
            let error = Error::from(error);
            Error::new(format!("{name}.sql, line {}: {}", statement.line, error.message), error.hint)
        })?;
    }
    let version = installed(client)?.version;
    if json {
        return output::json(out.stdout, &Done { script: name, version });
    }
    let version = version.map(|version| format!("; the schema has version {version}")).unwrap_or_default();
    output::text(out.stdout, &format!("{name} installed{version}\n"))
}

/// A statement of a file.
#[derive(Debug, PartialEq, Eq)]
struct Statement<'a> {
    text: &'a str,
    /// Where its first word is.
    line: usize,
}

/// The statements of a file as psql takes it apart: at semicolons outside of quotes and comments, and at `\g`, with
/// which these files discard a result. Each runs by itself, since VACUUM cannot run beside another one.
fn statements(text: &str) -> Vec<Statement<'_>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let (mut start, mut at) = (None, 0);
    while at < bytes.len() {
        let rest = &text[at..];
        let skipped = skip(rest);
        let is_comment = rest.starts_with("--") || rest.starts_with("/*");
        if !is_comment && !bytes[at].is_ascii_whitespace() && !matches!(bytes[at], b';' | b'\\') {
            start = start.or(Some(at));
        }
        if matches!(bytes[at], b';' | b'\\') {
            found.extend(start.take().map(|from| statement(text, from, at)));
        }
        at += skipped;
    }
    found.extend(start.map(|from| statement(text, from, text.len())));
    found
}

fn statement(text: &str, from: usize, end: usize) -> Statement<'_> {
    Statement { text: text[from..end].trim_end(), line: text[..from].matches('\n').count() + 1 }
}

/// The bytes of what a text starts with: a comment, a quoted text, a meta-command, a word, or a character.
fn skip(text: &str) -> usize {
    let until = |from: usize, end: &str| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    let first = text.chars().next().map_or(1, char::len_utf8);
    match text.as_bytes() {
        [b'-', b'-', ..] | [b'\\', ..] => text.find('\n').unwrap_or(text.len()),
        [b'/', b'*', ..] => block_comment(text),
        [quote @ (b'\'' | b'"'), ..] => until(1, if *quote == b'"' { "\"" } else { "'" }),
        [b'e' | b'E', b'\'', ..] => escaped_text(text),
        [b'$', ..] => match text[1..].find('$') {
            Some(end) if text[1..=end].bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
                let tag = &text[..end + 2];
                until(tag.len(), tag)
            }
            _ => first,
        },
        [byte, ..] if byte.is_ascii_alphanumeric() || *byte == b'_' => {
            text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')).count()
        }
        _ => first,
    }
}

/// Comments are nested.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        match text.as_bytes().get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") if depth == 1 => return at + 2,
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    text.len()
}

/// A text in which a backslash escapes the next character.
fn escaped_text(text: &str) -> usize {
    let mut bytes = text.bytes().enumerate().skip(2);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'\'' => return at + 1,
            _ => (),
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        statements(text).into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes() {
        for (text, expected) in [
            ("select 1; select 2", &["select 1", "select 2"][..]),
            ("-- a; b\nselect ';', ''';' ; /* ; /* ; */ ; */ ;", &["select ';', ''';'"]),
            ("do $$ begin; end $$; do $a$ $$;$b$; $a$;", &["do $$ begin; end $$", "do $a$ $$;$b$; $a$"]),
            ("select 1 \\g /dev/null\nselect 2;", &["select 1", "select 2"]),
            ("select E'\\';', e'a''b', \"x;\"\"y\", a$b, $1;;", &["select E'\\';', e'a''b', \"x;\"\"y\", a$b, $1"]),
            ("select 'ä;' -- ü;\n", &["select 'ä;' -- ü;"]),
            ("", &[]),
            (" ; -- nothing", &[]),
        ] {
            assert_eq!(texts(text), expected, "{text}");
        }
        assert_eq!(statements("-- a\n\nselect 1;\nselect\n2;").iter().map(|s| s.line).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn the_files_have_no_meta_command_but_the_one_that_is_known() {
        for script in Script::value_variants() {
            let lines =
                text(*script).lines().filter(|line| line.trim_start().starts_with('\\') || line.contains("\\g"));
            assert!(lines.clone().all(|line| line.ends_with("\\g /dev/null")), "{script:?}");
            assert!(statements(text(*script)).len() > 3, "{script:?}");
        }
    }
}
