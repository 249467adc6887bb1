//! Takes tokens out of texts for the log and for error sentences. Pure.

use percent_encoding::percent_decode;
use std::ops::Range;

/// What stands where a token stood.
pub const REDACTED: &str = "[token]";

/// The bytes from which on a secret is looked for within a text.
const SHORTEST: usize = 6;

/// The letters and digits in a row that look like a token.
const TOKEN_LENGTH: usize = 32;

/// A path for the log: one line of printable characters, not too long, and with no token in it, not even where a
/// client wrote it into the path by mistake (`/stats/A/b&token=...`).
pub fn path(raw: &[u8], secrets: &[String]) -> String {
    let mut logged = String::new();
    for (at, segment) in raw.split(|&byte| byte == b'/').enumerate() {
        if at > 0 {
            logged.push('/');
        }
        let segment = String::from_utf8_lossy(segment);
        let decoded = percent_decode(segment.as_bytes()).decode_utf8_lossy();
        let cleaned = text(&decoded, secrets);
        let shown = if cleaned == decoded { &*segment } else { &*cleaned };
        for character in shown.chars() {
            if character.is_control() {
                logged.extend(character.escape_default());
            } else {
                logged.push(character);
            }
        }
    }
    crate::error::shortened(&logged, 300)
}

/// A text without the secrets, without what follows `token=`, and without what looks like a token. A very short secret, which only a guess can be, counts
/// only as a whole: it would make confetti of every text.
pub fn text(text: &str, secrets: &[String]) -> String {
    let mut cleaned = text.to_owned();
    if let Some(at) = cleaned.to_ascii_lowercase().find("token=") {
        cleaned.replace_range(at + "token=".len().., REDACTED);
    }
    while let Some(range) = unbroken_run(&cleaned) {
        cleaned.replace_range(range, REDACTED);
    }
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        if cleaned == *secret {
            return REDACTED.to_owned();
        }
        if secret.len() >= SHORTEST {
            cleaned = cleaned.replace(secret.as_str(), REDACTED);
        }
    }
    cleaned
}

/// Where letters and digits run on for as long as a token does: it may be one that was not shown as a token.
fn unbroken_run(text: &str) -> Option<Range<usize>> {
    let mut start = 0;
    for (at, byte) in text.bytes().enumerate().chain([(text.len(), b' ')]) {
        if !byte.is_ascii_alphanumeric() {
            if at - start >= TOKEN_LENGTH {
                return Some(start..at);
            }
            start = at + 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_taken_out_wherever_they_stand() {
        let secrets = ["s3cret/+".to_owned(), "r00tr00t".to_owned(), "b".to_owned(), String::new()];
        for (raw, logged) in [
            ("/stats/A/b%20c", "/stats/A/b%20c"),
            ("/stats/A/b", "/stats/A/[token]"),
            ("/stats/A/s3cret%2F%2B", "/stats/A/[token]"),
            ("/stats/A/xr00tr00tx", "/stats/A/x[token]x"),
            ("/stats/A/b&token=other", "/stats/A/b&token=[token]"),
            ("/stats/A/b%26TOKEN%3dother", "/stats/A/b&TOKEN=[token]"),
            ("/0123456789abcdef0123456789ABCDEF/é-0123456789abcdef0123456789abcdef0", "/[token]/é-[token]"),
            ("/0123456789abcdef-0123456789abcdef", "/0123456789abcdef-0123456789abcdef"),
            ("/a\nb", "/a\\nb"),
        ] {
            assert_eq!(path(raw.as_bytes(), &secrets), logged);
        }
        assert_eq!(path(b"/\xe9", &secrets), "/\u{fffd}");
        assert_eq!(path(&b"a-".repeat(500), &secrets).chars().count(), 301);
    }
}
