//! Status, headers and JSON as the bytes of a CGI response (RFC 3875, section 6). Pure.

use crate::api::error::{ApiError, Description};
use crate::api::file_name;
use crate::api::format::Format;
use crate::api::request::StatsRequest;
use crate::store::DateRange;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};
use std::io;

/// The headers of every response: a browser must not guess a type, run, embed, leak or store anything of it.
const COMMON_HEADERS: &str = "X-Content-Type-Options: nosniff\r\n\
    Content-Security-Policy: default-src 'none'\r\n\
    Referrer-Policy: no-referrer\r\n\
    Cache-Control: private, no-store\r\n";

/// The type of JSON in this API: V-Spark's own.
pub const JSON_AS_HTML: &str = "text/html; charset=utf-8";

/// The type of CSV whose first row has the names of the columns (RFC 4180, section 3).
const CSV: &str = "text/csv; charset=utf-8; header=present";

/// The headers of the answer to a request, for these days.
pub fn report_headers(request: &StatsRequest, days: Option<DateRange>) -> Vec<u8> {
    match request.format {
        Format::Json => headers(200, JSON_AS_HTML, None),
        Format::Csv => {
            let disposition = file_name::content_disposition(request, days);
            headers(200, CSV, Some(("Content-Disposition", &disposition)))
        }
    }
}

/// The headers of a response, with the empty line that ends them.
pub fn headers(status: u16, content_type: &str, header: Option<(&str, &str)>) -> Vec<u8> {
    let extra = header.map_or(String::new(), |(name, value)| format!("{name}: {value}\r\n"));
    let phrase = phrase(status);
    format!("Status: {status} {phrase}\r\nContent-Type: {content_type}\r\n{COMMON_HEADERS}{extra}\r\n").into_bytes()
}

/// The standard phrase of each status that this service has (RFC 9110, section 15).
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

/// Headers and body of an error.
pub fn error(error: &ApiError, description: &Description) -> (Vec<u8>, Vec<u8>) {
    #[derive(Serialize)]
    struct Body<'a> {
        error: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        hint: &'a str,
    }
    let mut body = Vec::new();
    write_json(&mut body, &Body { error: &description.message, hint: &description.hint });
    (headers(error.status(), JSON_AS_HTML, error.header()), body)
}

/// Appends a value as JSON in which `<`, `>` and `&` are written `\u003c`, `\u003e`, `\u0026`: the body has the type
/// `text/html`, and a browser must find no markup in it.
pub fn write_json(out: &mut Vec<u8>, value: &impl Serialize) {
    let mut serializer = serde_json::Serializer::with_formatter(out, HtmlSafe(CompactFormatter));
    // Writing plain structs to a vector has no way to fail.
    let _ = value.serialize(&mut serializer);
}

struct HtmlSafe(CompactFormatter);

impl Formatter for HtmlSafe {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&']) {
            self.0.write_string_fragment(out, &rest[..at])?;
            write!(out, "\\u{:04x}", rest.as_bytes()[at])?;
            rest = &rest[at + 1..];
        }
        self.0.write_string_fragment(out, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(text: &str) -> String {
        let mut out = Vec::new();
        write_json(&mut out, &text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn markup_is_written_as_escapes() {
        assert_eq!(json("<b>&amp;</b>"), r#""\u003cb\u003e\u0026amp;\u003c/b\u003e""#);
        assert_eq!(json("a \"quote\" \\ and a tab\t"), r#""a \"quote\" \\ and a tab\t""#);
    }

    #[test]
    fn an_error_has_a_message_and_a_hint() {
        let refused = ApiError::MethodNotAllowed;
        let (headers, body) = error(&refused, &refused.describe("/stats", &[]));
        let headers = String::from_utf8(headers).unwrap();
        assert!(headers.starts_with("Status: 405 Method Not Allowed\r\n"));
        assert!(headers.contains("\r\nAllow: GET, HEAD\r\n") && headers.ends_with("\r\n\r\n"));
        assert_eq!(body, br#"{"error":"Method not allowed.","hint":"Use GET or HEAD."}"#);
    }

    proptest! {
        #[test]
        fn every_text_parses_back_and_has_no_markup(text in any::<String>()) {
            let written = json(&text);
            prop_assert!(!written.contains(['<', '>', '&']));
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        }
    }
}
