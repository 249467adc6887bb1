//! Removes tokens from texts for the log and for error messages. Pure, and in time linear in the text: it runs for
//! requests of strangers.

use percent_encoding::percent_decode;
use std::borrow::Cow;

/// Stands in place of a token.
pub const REDACTED: &str = "[token]";

/// Secrets shorter than this are redacted only if they are a whole segment of a path or the whole text: replacing every
/// "a" would destroy the message.
const MIN_SECRET_LEN: usize = 6;

/// More distinct secrets than this are not searched for, which would cost time for each of them: nothing of the text is
/// kept instead. An honest request has up to three (query, header, the root token).
const MAX_SECRETS: usize = 4;

/// A run of this many letters and digits looks like a token, even if it was not presented as one.
const TOKEN_LEN: usize = 32;

/// The characters of a path that are logged at most.
const LOGGED_CHARS: usize = 300;

/// Puts secrets in the form that the other functions expect: distinct, none empty, and longer ones before those that
/// they contain.
pub fn secrets(mut secrets: Vec<String>) -> Vec<String> {
    secrets.retain(|secret| !secret.is_empty());
    secrets.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    secrets.dedup();
    secrets
}

/// A path (or a method) for the log: one line of printable characters, not too long, and without a token, not even
/// where a client wrote it into the path by mistake (`/stats/A/b&token=...`).
pub fn for_log(raw: &[u8], secrets: &[String]) -> String {
    let raw = String::from_utf8_lossy(raw);
    let decoded = percent_decode(raw.as_bytes()).decode_utf8_lossy();
    let cleaned = text(&decoded, secrets);
    let shown: &str = if cleaned == decoded { &raw } else { &cleaned };
    let mut logged = String::new();
    for character in shown.chars().take(LOGGED_CHARS + 1) {
        if character.is_control() {
            logged.extend(character.escape_default());
        } else {
            logged.push(character);
        }
    }
    truncate(&logged, LOGGED_CHARS)
}

/// A text without the secrets, without the rest of it after `token=`, and without anything that looks like a token.
pub fn text(text: &str, secrets: &[String]) -> String {
    if secrets.len() > MAX_SECRETS {
        return REDACTED.to_owned();
    }
    let mut cleaned = without_token_parameter(text);
    for secret in secrets {
        if secret.len() >= MIN_SECRET_LEN {
            if cleaned.contains(secret.as_str()) {
                cleaned = cleaned.replace(secret.as_str(), REDACTED).into();
            }
        } else if cleaned.split('/').any(|segment| segment == secret) {
            let segments = cleaned.split('/').map(|segment| if segment == secret { REDACTED } else { segment });
            cleaned = segments.collect::<Vec<_>>().join("/").into();
        }
    }
    without_long_runs(&cleaned)
}

/// Cuts the text after `token=`, in whatever case.
fn without_token_parameter(text: &str) -> Cow<'_, str> {
    const NAME: &[u8] = b"token=";
    let found = text.as_bytes().windows(NAME.len()).position(|window| window.eq_ignore_ascii_case(NAME));
    // The name is ASCII, so its end is a boundary of characters.
    match found.and_then(|at| text.get(..at + NAME.len())) {
        Some(kept) => format!("{kept}{REDACTED}").into(),
        None => text.into(),
    }
}

/// Replaces each run of letters and digits that is as long as a token.
fn without_long_runs(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let other = rest.bytes().skip(run).take_while(|byte| !byte.is_ascii_alphanumeric()).count();
        cleaned.push_str(if run >= TOKEN_LEN { REDACTED } else { &rest[..run] });
        cleaned.push_str(&rest[run..run + other]);
        rest = &rest[run + other..];
    }
    cleaned
}

/// Up to `limit` characters of the text, with an ellipsis if some were left out.
pub fn truncate(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn known(tokens: &[&str]) -> Vec<String> {
        secrets(tokens.iter().map(|token| (*token).to_owned()).collect())
    }

    #[test]
    fn tokens_are_removed_wherever_they_are() {
        let secrets = known(&["s3cret/+", "r00tr00t", "b", ""]);
        for (raw, logged) in [
            ("/stats/A/b%20c", "/stats/A/b%20c"),
            ("/stats/A/b", "/stats/A/[token]"),
            ("/stats/A/s3cret%2F%2B", "/stats/A/[token]"),
            ("/stats/A/s3cret/+", "/stats/A/[token]"),
            ("/stats/A/xr00tr00tx", "/stats/A/x[token]x"),
            ("/stats/A/b&token=other", "/stats/A/b&token=[token]"),
            ("/stats/A/b%26TOKEN%3dother/more", "/stats/A/b&TOKEN=[token]"),
            ("/0123456789abcdef0123456789ABCDEF/é-0123456789abcdef0123456789abcdef0", "/[token]/é-[token]"),
            ("/0123456789abcdef-0123456789abcdef", "/0123456789abcdef-0123456789abcdef"),
            ("/a\nb", "/a\\nb"),
        ] {
            assert_eq!(for_log(raw.as_bytes(), &secrets), logged);
        }
        assert_eq!(for_log(b"/\xe9", &secrets), "/\u{fffd}");
        assert_eq!(for_log(&b"a-".repeat(500), &secrets).chars().count(), 301);
    }

    #[test]
    fn a_token_inside_a_longer_one_leaves_nothing_of_it() {
        let secrets = known(&["abcdef", "abcdef-ghi", "abcdef"]);
        assert_eq!(text("x/abcdef-ghi/abcdef", &secrets), "x/[token]/[token]");
    }

    #[test]
    fn with_more_secrets_than_are_searched_for_nothing_is_kept() {
        let secrets = known(&["aaaaaaa", "bbbbbbb", "ccccccc", "ddddddd", "eeeeeee"]);
        assert_eq!(for_log(b"/stats/A/b", &secrets), "[token]");
    }

    proptest! {
        #[test]
        fn no_long_secret_is_left(before in ".{0,20}", secret in "[a-zA-Z0-9/+%é-]{6,40}", after in ".{0,20}") {
            let secrets = known(&[&secret]);
            let cleaned = text(&format!("{before}{secret}{after}"), &secrets);
            prop_assert!(!cleaned.contains(&secrets[0]) || REDACTED.contains(&secrets[0]));
        }
    }
}
