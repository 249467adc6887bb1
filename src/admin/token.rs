//! `callstats token`: tokens of companies, of which the database has digests only. Touches the database and the
//! system's source of random bytes.

use crate::admin::error::Error;
use crate::admin::name::{self, shown};
use crate::admin::{Output, output, warn_unless_composed};
use crate::api::access::digest;
use crate::cli::TokenCommand;
use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, Utc};
use postgres::{Client, Transaction};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::Serialize;

/// Letters and digits of a token: 190 bits.
const TOKEN_LEN: usize = 32;
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

const ADD: &str = include_str!("sql/token_add.sql");
const LIST: &str = include_str!("sql/token_list.sql");
const REVOKE: &str = include_str!("sql/token_revoke.sql");

/// Runs the command.
pub fn run(command: &TokenCommand, client: &mut Client, out: &mut Output<'_>) -> Result<(), Error> {
    let mut transaction = super::transaction(client)?;
    match command {
        TokenCommand::Add { company, name, expires, json } => {
            refuse_unseen()?;
            add(&mut transaction, company, name, expires.as_deref(), *json, out)?;
            // The token was written before: if that fails, it must not exist.
            transaction.commit().map_err(|error| {
                let error = Error::from(error);
                Error::new(
                    format!("the token may not have been stored: {}", error.message),
                    "callstats token list shows whether it was",
                )
            })
        }
        TokenCommand::List { company, json } => list(&mut transaction, company.as_deref(), *json, out),
        TokenCommand::Revoke { company, name, json } => {
            revoke(&mut transaction, company, name)?;
            transaction.commit()?;
            if *json {
                output::json(out.stdout, &Named { company, name })
            } else {
                output::text(out.stdout, &format!("token {} of company {} revoked\n", shown(name), shown(company)))
            }
        }
    }
}

#[derive(Serialize)]
struct Named<'a> {
    company: &'a str,
    name: &'a str,
}

fn add(
    transaction: &mut Transaction<'_>,
    company: &str,
    name: &str,
    expires: Option<&str>,
    json: bool,
    out: &mut Output<'_>,
) -> Result<(), Error> {
    #[derive(Serialize)]
    struct Added<'a> {
        company: &'a str,
        name: &'a str,
        token: &'a str,
        expires_at: Option<String>,
    }
    name::check("token", name)?;
    warn_unless_composed(out, "token", name);
    let expires_at = expires.map(expiry).transpose()?;
    let company_id = company_id(transaction, company)?;
    let token = random_token()?;
    let digest = digest(&token);
    let row = transaction.query_one(ADD, &[&company_id, &name, &&digest[..], &expires_at]).map_err(Error::from)?;
    if row.try_get("is_past")? {
        return Err(Error::new(
            format!("{} is in the past: the token would never count", shown(expires.unwrap_or_default())),
            "give a later --expires, or none",
        ));
    }
    if row.try_get("is_taken")? {
        return Err(Error::new(
            format!("company {} already has a token {}", shown(company), shown(name)),
            "choose another name, or revoke that one first: callstats token revoke",
        ));
    }
    if json {
        return output::json(out.stdout, &Added { company, name, token: &token, expires_at: expires_at.map(iso) });
    }
    let until = expires_at.map(|at| format!(", until {}", iso(at))).unwrap_or_default();
    out.note(&format!("Token {} of company {}{until}, shown this once:", shown(name), shown(company)));
    output::text(out.stdout, &format!("{token}\n"))
}

/// A token is shown once: on standard output that leads nowhere, or is closed (which the start of the process turns
/// into the same), it would exist and be known to nobody.
fn refuse_unseen() -> Result<(), Error> {
    let of = |stat: rustix::fs::Stat| (rustix::fs::FileType::from_raw_mode(stat.st_mode), stat.st_rdev);
    let (stdout, null) = (rustix::fs::fstat(std::io::stdout()), rustix::fs::stat("/dev/null"));
    match (stdout, null) {
        (Ok(stdout), Ok(null)) if of(stdout) == of(null) => Err(Error::new(
            "standard output is closed or /dev/null: nobody would see the token, which is shown once",
            "let it go to a terminal, a file or a pipe",
        )),
        (Err(error), _) => Err(Error::of_output(&error.into())),
        _ => Ok(()),
    }
}

fn list(
    transaction: &mut Transaction<'_>,
    company: Option<&str>,
    json: bool,
    out: &mut Output<'_>,
) -> Result<(), Error> {
    #[derive(Serialize)]
    struct Token {
        company: String,
        name: String,
        created_at: String,
        expires_at: Option<String>,
        expired: bool,
    }
    if let Some(company) = company {
        company_id(transaction, company)?;
    }
    let mut tokens = Vec::new();
    for row in transaction.query(LIST, &[&company])? {
        tokens.push(Token {
            company: row.try_get("company")?,
            name: row.try_get("name")?,
            created_at: row.try_get("created_at")?,
            expires_at: row.try_get("expires_at")?,
            expired: row.try_get("is_expired")?,
        });
    }
    if json {
        return output::json(out.stdout, &tokens);
    }
    let rows: Vec<Vec<String>> = tokens
        .into_iter()
        .map(|token| {
            let expires = token.expires_at.unwrap_or_else(|| "-".into());
            let expires = if token.expired { format!("{expires} (expired)") } else { expires };
            vec![token.company, token.name, token.created_at, expires]
        })
        .collect();
    output::table(out.stdout, &["COMPANY", "TOKEN", "CREATED", "EXPIRES"], &rows)
}

fn revoke(transaction: &mut Transaction<'_>, company: &str, name: &str) -> Result<(), Error> {
    let company_id = company_id(transaction, company)?;
    if transaction.execute(REVOKE, &[&company_id, &name])? == 0 {
        return Err(Error::new(
            format!("company {} has no token {}", shown(company), shown(name)),
            "callstats token list shows those that it has",
        ));
    }
    Ok(())
}

fn company_id(transaction: &mut Transaction<'_>, company: &str) -> Result<i32, Error> {
    let row = transaction.query_opt("select id from callstats.company where short_name = $1", &[&company])?;
    match row {
        Some(row) => Ok(row.try_get(0)?),
        None => Err(super::tenant::no_company(company)),
    }
}

/// The moment from which a token does not count: a day begins at midnight, UTC.
fn expiry(text: &str) -> Result<DateTime<Utc>, Error> {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|day| day.and_time(NaiveTime::MIN).and_utc());
    let moment = day.or_else(|_| DateTime::parse_from_rfc3339(text).map(|moment| moment.to_utc()));
    moment.map_err(|_| {
        Error::new(
            format!("--expires is {}, which is not a date", shown(text)),
            "write it as 2027-01-01 (midnight, UTC) or 2027-01-01T12:00:00+01:00",
        )
    })
}

fn iso(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Each letter with the same probability: bytes beyond the last multiple of 62 are not used.
fn random_token() -> Result<String, Error> {
    let mut token = String::with_capacity(TOKEN_LEN);
    let mut bytes = [0; 64];
    while token.len() < TOKEN_LEN {
        let count = match getrandom(&mut bytes[..], GetRandomFlags::empty()) {
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(Error::new(format!("the system has no random bytes: {error}"), "")),
        };
        for &byte in bytes.iter().take(count) {
            let letter = ALPHABET.get(usize::from(byte) % ALPHABET.len());
            if let Some(&letter) = letter.filter(|_| byte < 248 && token.len() < TOKEN_LEN) {
                token.push(char::from(letter));
            }
        }
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_random_letters_and_digits() {
        let tokens: std::collections::BTreeSet<String> = (0..100).map(|_| random_token().unwrap()).collect();
        assert_eq!(tokens.len(), 100);
        assert!(tokens.iter().all(|token| token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_alphanumeric())));
        let letters: std::collections::BTreeSet<u8> = tokens.iter().flat_map(|token| token.bytes()).collect();
        assert_eq!(letters.len(), 62);
    }

    #[test]
    fn a_day_ends_a_token_at_its_start() {
        assert_eq!(iso(expiry("2027-01-01").unwrap()), "2027-01-01T00:00:00Z");
        assert_eq!(iso(expiry("2027-01-01T12:00:00+01:00").unwrap()), "2027-01-01T11:00:00Z");
        for text in ["", "2027-02-30", "01.01.2027", "tomorrow", "2027-01-01 x"] {
            assert!(expiry(text).is_err(), "{text}");
        }
    }
}
