//! CGI parameters to a request for statistics (docs/api.md, "Request"). Pure.

use crate::api::cgi::CgiParams;
use crate::api::error::{ApiError, BadRequest};
use crate::api::format::Format;
use crate::api::interval::Interval;
use percent_encoding::percent_decode;
use std::borrow::Cow;
use url::form_urlencoded;

/// The question of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsRequest {
    /// The company's short name.
    pub company: String,
    /// The organization's short name.
    pub organization: String,
    /// The folder's name; none: all folders.
    pub folder: Option<String>,
    /// None if there is none, or an empty one.
    pub token: Option<String>,
    /// The query parameter `daterange`, not parsed yet: it needs the organization's current date.
    pub daterange: Option<String>,
    pub interval: Interval,
    pub format: Format,
}

const MALFORMED: ApiError = ApiError::BadRequest(BadRequest::Malformed);

/// Parses a request. `prefix` is the path before the company, `/stats` or the like; empty: none.
pub fn parse(params: &CgiParams, prefix: &str) -> Result<StatsRequest, ApiError> {
    match params.request_method.as_deref() {
        Some(b"GET" | b"HEAD") => (),
        Some(_) => return Err(ApiError::MethodNotAllowed),
        None => return Err(MALFORMED), // a web server always sends one
    }
    let path = params.raw_path();
    let path = readable_path(&path, params.request_uri.is_some())?;
    let query = Query::parse(params.raw_query())?;
    let interval = Interval::parse(query.interval.as_deref())?;
    let format = Format::parse(query.format.as_deref())?;
    let token = token(query.token, bearer(params.authorization.as_deref())?)?;
    let (company, organization, folder) =
        names(path, params.request_uri.is_some(), prefix)?.ok_or(ApiError::InvalidPath)?;
    Ok(StatsRequest { company, organization, folder, token, daterange: query.daterange, interval, format })
}

/// The path, once all of it can be read, in whichever segment an error is.
fn readable_path(path: &[u8], is_encoded: bool) -> Result<&[u8], ApiError> {
    if path.is_empty() {
        return Err(MALFORMED); // a web server always sends one
    }
    let path = if is_encoded { without_authority(path) } else { path };
    decode(path, is_encoded)?;
    Ok(path)
}

/// The path of a URL in absolute form (`http://host/path`), which servers must accept too (RFC 9112, section 3.2.2).
fn without_authority(path: &[u8]) -> &[u8] {
    let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| path.starts_with(scheme));
    let Some(scheme) = scheme else { return path };
    let after = &path[scheme.len()..];
    after.iter().position(|&byte| byte == b'/').map_or(b"/", |at| &after[at..])
}

fn decode(bytes: &[u8], is_encoded: bool) -> Result<String, ApiError> {
    if is_encoded && has_broken_escape(bytes) {
        return Err(MALFORMED);
    }
    let bytes = if is_encoded { percent_decode(bytes).into() } else { Cow::Borrowed(bytes) };
    let text = String::from_utf8(bytes.into_owned()).map_err(|_| MALFORMED)?;
    if text.contains('\0') { Err(MALFORMED) } else { Ok(text) }
}

fn has_broken_escape(bytes: &[u8]) -> bool {
    let is_escape = |after: &[u8]| matches!(after, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    bytes.iter().enumerate().any(|(at, &byte)| byte == b'%' && !is_escape(&bytes[at + 1..]))
}

/// Company, organization and folder of a path.
type Names = (String, String, Option<String>);

/// The names after the prefix. The path is split before it is decoded, so that an escaped slash stays part of a name.
/// One slash at the end is ignored; no name may be empty.
fn names(path: &[u8], is_encoded: bool, prefix: &str) -> Result<Option<Names>, ApiError> {
    let path = if path.len() > 1 { path.strip_suffix(b"/").unwrap_or(path) } else { path };
    let expected: Vec<&str> = prefix.split('/').collect(); // starts with an empty segment, as the path does
    let segments = path.split(|&byte| byte == b'/').take(expected.len() + 4); // one more than can be right
    let mut segments = segments.map(|segment| decode(segment, is_encoded)).collect::<Result<Vec<_>, _>>()?;
    if segments.len() < expected.len() || segments[..expected.len()] != expected[..] {
        return Ok(None);
    }
    let mut names = segments.drain(expected.len()..);
    let (Some(company), Some(organization), folder, None) = (names.next(), names.next(), names.next(), names.next())
    else {
        return Ok(None);
    };
    let is_named = !company.is_empty() && !organization.is_empty() && folder.as_ref().is_none_or(|f| !f.is_empty());
    Ok(is_named.then_some((company, organization, folder)))
}

#[derive(Default)]
struct Query {
    token: Option<String>,
    daterange: Option<String>,
    interval: Option<String>,
    format: Option<String>,
}

impl Query {
    /// The known parameters of an `application/x-www-form-urlencoded` query. Unknown ones are ignored, but must be
    /// readable.
    fn parse(query: &[u8]) -> Result<Self, ApiError> {
        decode(query, true)?;
        let mut parsed = Self::default();
        for (name, value) in form_urlencoded::parse(query) {
            let (parameter, name) = match &*name {
                "token" => (&mut parsed.token, "token"),
                "daterange" => (&mut parsed.daterange, "daterange"),
                "interval" => (&mut parsed.interval, "interval"),
                "format" => (&mut parsed.format, "format"),
                _ => continue,
            };
            if parameter.replace(value.into_owned()).is_some() {
                return Err(BadRequest::Duplicate(name).into());
            }
        }
        Ok(parsed)
    }
}

/// The token of an `Authorization` header of the scheme Bearer (RFC 6750, section 2.1). Other schemes are not ours.
fn bearer(header: Option<&[u8]>) -> Result<Option<String>, ApiError> {
    let Some(header) = header else { return Ok(None) };
    let header = decode(header, false)?;
    Ok(match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim_matches(' ').to_owned()),
        _ => None,
    })
}

fn token(parameter: Option<String>, header: Option<String>) -> Result<Option<String>, ApiError> {
    let is_given = |token: &String| !token.is_empty();
    match (parameter.filter(is_given), header.filter(is_given)) {
        (Some(parameter), Some(header)) if parameter != header => Err(BadRequest::TwoTokens.into()),
        (parameter, header) => Ok(header.or(parameter)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn params(uri: &str) -> CgiParams {
        CgiParams {
            request_method: Some(b"GET".to_vec()),
            request_uri: Some(uri.as_bytes().to_vec()),
            ..CgiParams::default()
        }
    }

    fn names_of(uri: &str) -> Result<(String, String, Option<String>), ApiError> {
        parse(&params(uri), "/stats").map(|request| (request.company, request.organization, request.folder))
    }

    #[test]
    fn a_path_is_split_before_it_is_decoded() {
        let all = ("A".to_owned(), "b".to_owned(), None);
        assert_eq!(names_of("/stats/A/b"), Ok(all.clone()));
        assert_eq!(names_of("/stats/A/b/"), Ok(all.clone()));
        assert_eq!(names_of("/st%61ts/%41/b?x=%20"), Ok(all.clone()));
        assert_eq!(names_of("http://host.example/stats/A/b"), Ok(all));
        for (segment, folder) in [("a%2Fb", "a/b"), ("a+b", "a+b"), ("a%20b", "a b"), ("%C3%A9", "é"), ("%25", "%")] {
            assert_eq!(names_of(&format!("/stats/A/b/{segment}")), Ok(("A".into(), "b".into(), Some(folder.into()))));
        }
        for uri in [
            "/",
            "/stats",
            "/stats/",
            "/stats/A",
            "/stats/A/",
            "/stats//b",
            "/stats/A/b/c/d",
            "/stats/A/b//",
            "/stats/A/b/c//",
            "/Stats/A/b",
            "/statsA/b/c",
            "stats/A/b",
            "http://host.example",
            "*",
        ] {
            assert_eq!(names_of(uri), Err(ApiError::InvalidPath), "{uri}");
        }
        assert_eq!(names_of("/stats/A/%"), Err(MALFORMED));
        assert_eq!(names_of("/stats/A/%4"), Err(MALFORMED));
        assert_eq!(names_of("/stats/A/%4g"), Err(MALFORMED));
        assert_eq!(names_of("/stats/A/%E9"), Err(MALFORMED));
        assert_eq!(names_of("/stats/A/%00"), Err(MALFORMED));
    }

    #[test]
    fn a_prefix_is_compared_segment_by_segment() {
        for (prefix, uri) in [("", "/A/b"), ("/a/b c", "/a/b%20c/A/b")] {
            assert!(parse(&params(uri), prefix).is_ok(), "{prefix:?}");
        }
    }

    #[test]
    fn a_decoded_path_is_not_decoded_again() {
        let params = CgiParams {
            request_method: Some(b"GET".to_vec()),
            script_name: Some(b"/stats".to_vec()),
            path_info: Some("/A/b/50%25 é".into()),
            query_string: Some(b"token=t".to_vec()),
            ..CgiParams::default()
        };
        assert_eq!(parse(&params, "/stats").unwrap().folder.as_deref(), Some("50%25 é"));
        let latin1 = CgiParams { path_info: Some(b"/A/b/\xe9".to_vec()), ..params };
        assert_eq!(parse(&latin1, "/stats"), Err(MALFORMED));
    }

    #[test]
    fn query_parameters_are_form_encoded_and_unique() {
        let request = parse(&params("/stats/A/b?a&b=&tok%65n=x+y%2b&daterange=-&%00=1"), "/stats");
        assert_eq!(request, Err(MALFORMED));
        let request = parse(&params("/stats/A/b?a&b=&tok%65n=x+y%2b&daterange=-&Token=1"), "/stats").unwrap();
        assert_eq!(request.token.as_deref(), Some("x y+"));
        assert_eq!(request.daterange.as_deref(), Some("-"));
        for query in [
            "token=a&token=a",
            "token=&token=a",
            "daterange=&daterange=",
            "interval=&interval=day",
            "interval=day&interval=day",
            "format=csv&format=csv",
            "interval=year",
            "interval=DAY",
            "format=xml",
            "x=%zz",
            "x=%ff",
            "%c3&x=%a9",
        ] {
            let refused = parse(&params(&format!("/stats/A/b?{query}")), "/stats");
            assert!(matches!(refused, Err(ApiError::BadRequest(_))), "{query}");
        }
    }

    #[test]
    fn interval_and_format_have_defaults() {
        for (query, interval, format) in [
            ("", Interval::Day, Format::Json),
            ("interval=&format=", Interval::Day, Format::Json),
            ("interval=week&format=csv", Interval::Week, Format::Csv),
            ("Interval=week&FORMAT=csv", Interval::Day, Format::Json),
            ("interv%61l=m%6fnth", Interval::Month, Format::Json),
        ] {
            let request = parse(&params(&format!("/stats/A/b?{query}")), "/stats").unwrap();
            assert_eq!((request.interval, request.format), (interval, format), "{query}");
        }
    }

    #[test]
    fn a_token_is_in_the_query_or_the_header() {
        for (query, header, expected) in [
            ("", "Bearer t", Ok(Some("t"))),
            ("", "bEARER  t ", Ok(Some("t"))),
            ("token=t", "Bearer t", Ok(Some("t"))),
            ("token=t", "Basic dTpw", Ok(Some("t"))),
            ("token=", "Bearer t", Ok(Some("t"))),
            ("token=", "", Ok(None)),
            ("", "Bearer", Ok(None)),
            ("token=t", "Bearer T", Err(())),
        ] {
            let mut params = params(&format!("/stats/A/b?{query}"));
            params.authorization = Some(header.into());
            let token = parse(&params, "/stats").map(|request| request.token).map_err(|_| ());
            assert_eq!(token, expected.map(|token| token.map(str::to_owned)), "{query} {header}");
        }
    }

    #[test]
    fn the_method_is_checked_first() {
        for method in ["POST", "get", "OPTIONS", ""] {
            let mut params = params("/nowhere?token=a&token=b");
            params.request_method = Some(method.into());
            assert_eq!(parse(&params, "/stats"), Err(ApiError::MethodNotAllowed));
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(uri in any::<Vec<u8>>(), query in any::<Option<Vec<u8>>>(), header in any::<Vec<u8>>()) {
            let params = CgiParams {
                request_uri: Some([b"/stats/A/b/", &uri[..]].concat()),
                query_string: query,
                authorization: Some(header),
                ..params("")
            };
            let _ = parse(&params, "/stats");
            let _ = params.presented_tokens();
        }

        #[test]
        fn every_name_can_be_asked_for(name in "[^\0]{1,20}") {
            let encoded = percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC);
            let request = parse(&params(&format!("/stats/A/b/{encoded}")), "/stats").unwrap();
            prop_assert_eq!(request.folder, Some(name));
        }
    }
}
