//! CGI parameters to a request for statistics (section 1 of the contract; RFC 3875, section 4.1). Pure.

use crate::error::ApiError;
use percent_encoding::percent_decode;
use std::borrow::Cow;
use url::form_urlencoded;

/// The parameters that count, as bytes: a web server passes on what the client sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgiParams {
    /// `REQUEST_METHOD`.
    pub request_method: Option<Vec<u8>>,
    /// `REQUEST_URI`: path and query as they were sent; not in RFC 3875, but of every web server.
    pub request_uri: Option<Vec<u8>>,
    /// `SCRIPT_NAME`: the first part of the path, decoded.
    pub script_name: Option<Vec<u8>>,
    /// `PATH_INFO`: the rest of the path, decoded.
    pub path_info: Option<Vec<u8>>,
    /// `QUERY_STRING`, as it was sent.
    pub query_string: Option<Vec<u8>>,
    /// `HTTP_AUTHORIZATION`.
    pub authorization: Option<Vec<u8>>,
    /// `CALLSTATS_PROBE` is set: a probe of monitoring. No header of a client can set a parameter of this name.
    pub is_probe: bool,
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsRequest {
    /// HEAD: everything but the body.
    pub head_only: bool,
    /// The company's short name.
    pub company: String,
    /// The organization's short name.
    pub organization: String,
    /// The folder's name; none: all folders.
    pub folder: Option<String>,
    /// The token; none where there is none or an empty one.
    pub token: Option<String>,
    /// The option `daterange`, not yet looked at.
    pub daterange: Option<String>,
}

/// One sentence for all of these, because a web server may refuse some before they come here: `deploy` gives it the
/// same words.
const UNREADABLE: ApiError = ApiError::BadRequest(
    "The address or a header cannot be read: write it as UTF-8, percent-encoded, without a NUL character.",
);

impl CgiParams {
    /// Takes the parameters out of wherever they are kept.
    pub fn collect(mut value: impl FnMut(&str) -> Option<Vec<u8>>) -> Self {
        Self {
            request_method: value("REQUEST_METHOD"),
            request_uri: value("REQUEST_URI").filter(|uri| !uri.is_empty()),
            script_name: value("SCRIPT_NAME"),
            path_info: value("PATH_INFO"),
            query_string: value("QUERY_STRING"),
            authorization: value("HTTP_AUTHORIZATION"),
            is_probe: value("CALLSTATS_PROBE").is_some_and(|value| !value.is_empty()),
        }
    }

    /// Whether the method is HEAD, for answers that are made before the request was understood.
    pub fn is_head(&self) -> bool {
        self.request_method.as_deref() == Some(b"HEAD")
    }

    /// The path as it came, without the query.
    pub fn raw_path(&self) -> Cow<'_, [u8]> {
        match &self.request_uri {
            Some(uri) => uri.split(|&byte| byte == b'?').next().unwrap_or_default().into(),
            None => {
                [self.script_name.as_deref(), self.path_info.as_deref()].map(Option::unwrap_or_default).concat().into()
            }
        }
    }

    /// Every token that the client showed, also in a request that is refused: what no log may hold.
    pub fn shown_tokens(&self) -> Vec<String> {
        let options = form_urlencoded::parse(self.raw_query());
        let mut tokens: Vec<String> = options
            .filter(|(name, _)| name.eq_ignore_ascii_case("token"))
            .map(|(_, value)| value.into_owned())
            .collect();
        if let Some(header) = &self.authorization {
            let header = String::from_utf8_lossy(header);
            tokens.push(header.split_once(' ').map_or(&*header, |(_, token)| token.trim()).to_owned());
        }
        tokens
    }

    /// The query as it came.
    pub fn raw_query(&self) -> &[u8] {
        match (&self.query_string, &self.request_uri) {
            (Some(query), _) => query,
            (None, Some(uri)) => uri.splitn(2, |&byte| byte == b'?').nth(1).unwrap_or_default(),
            (None, None) => b"",
        }
    }
}

/// Reads a request. `prefix` is the path before the company, `/stats` or the like; empty: none.
pub fn parse(params: &CgiParams, prefix: &str) -> Result<StatsRequest, ApiError> {
    let head_only = match params.request_method.as_deref() {
        Some(b"GET") => false,
        Some(b"HEAD") => true,
        Some(_) => return Err(ApiError::Method),
        None => return Err(UNREADABLE), // a web server always sends a method
    };
    let segments = path_segments(params)?;
    let options = Options::parse(params.raw_query())?;
    let token = token(options.token, bearer(params.authorization.as_deref())?)?;
    let (company, organization, folder) = names(segments, prefix).ok_or(ApiError::PathForm)?;
    Ok(StatsRequest { head_only, company, organization, folder, token, daterange: options.daterange })
}

/// The decoded segments of the path; split first, so that an escaped slash stays part of a name.
fn path_segments(params: &CgiParams) -> Result<Vec<String>, ApiError> {
    let path = params.raw_path();
    if path.is_empty() {
        return Err(UNREADABLE); // a web server always sends a path
    }
    let is_encoded = params.request_uri.is_some();
    let path = if is_encoded { without_authority(&path) } else { &path };
    path.split(|&byte| byte == b'/').map(|segment| decoded(segment, is_encoded)).collect()
}

/// The path of an absolute address (`http://host/path`), which servers must take as well (RFC 9112, section 3.2.2).
fn without_authority(path: &[u8]) -> &[u8] {
    let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| path.starts_with(scheme));
    let Some(scheme) = scheme else { return path };
    let after = &path[scheme.len()..];
    after.iter().position(|&byte| byte == b'/').map_or(b"/", |at| &after[at..])
}

fn decoded(bytes: &[u8], is_encoded: bool) -> Result<String, ApiError> {
    if is_encoded && has_broken_escape(bytes) {
        return Err(UNREADABLE);
    }
    let bytes = if is_encoded { percent_decode(bytes).into() } else { Cow::Borrowed(bytes) };
    let text = String::from_utf8(bytes.into_owned()).map_err(|_| UNREADABLE)?;
    if text.contains('\0') { Err(UNREADABLE) } else { Ok(text) }
}

fn has_broken_escape(bytes: &[u8]) -> bool {
    let is_escape = |after: &[u8]| matches!(after, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    bytes.iter().enumerate().any(|(at, &byte)| byte == b'%' && !is_escape(&bytes[at + 1..]))
}

/// Company, organization and folder after the prefix. One slash at the end is ignored; nothing may be empty.
fn names(mut segments: Vec<String>, prefix: &str) -> Option<(String, String, Option<String>)> {
    if segments.len() > 1 && segments.last().is_some_and(String::is_empty) {
        segments.pop();
    }
    let expected: Vec<&str> = prefix.split('/').collect(); // starts with an empty segment, as the path does
    if segments.len() < expected.len() || segments[..expected.len()] != expected[..] {
        return None;
    }
    let mut names = segments.drain(expected.len()..);
    let (company, organization, folder) = (names.next()?, names.next()?, names.next());
    let is_whole = names.next().is_none();
    let is_named = !company.is_empty() && !organization.is_empty() && folder.as_ref().is_none_or(|f| !f.is_empty());
    (is_whole && is_named).then_some((company, organization, folder))
}

#[derive(Default)]
struct Options {
    token: Option<String>,
    daterange: Option<String>,
}

impl Options {
    /// The known options of an `application/x-www-form-urlencoded` query; unknown ones are ignored, once readable.
    fn parse(query: &[u8]) -> Result<Self, ApiError> {
        decoded(query, true)?;
        let mut options = Self::default();
        for (name, value) in form_urlencoded::parse(query) {
            let (option, twice) = match &*name {
                "token" => (&mut options.token, "The option token was given twice: give it once."),
                "daterange" => (&mut options.daterange, "The option daterange was given twice: give it once."),
                _ => continue,
            };
            if option.replace(value.into_owned()).is_some() {
                return Err(ApiError::BadRequest(twice));
            }
        }
        Ok(options)
    }
}

/// The token of an `Authorization` header of the scheme Bearer (RFC 6750, section 2.1); other schemes are not ours.
fn bearer(header: Option<&[u8]>) -> Result<Option<String>, ApiError> {
    let Some(header) = header else { return Ok(None) };
    let header = decoded(header, false)?;
    Ok(match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim_matches(' ').to_owned()),
        _ => None,
    })
}

fn token(option: Option<String>, header: Option<String>) -> Result<Option<String>, ApiError> {
    let given = |token: &String| !token.is_empty();
    match (option.filter(given), header.filter(given)) {
        (Some(option), Some(header)) if option != header => {
            Err(ApiError::BadRequest("The option token and the header Authorization give different tokens: give one."))
        }
        (option, header) => Ok(header.or(option)),
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
            assert_eq!(names_of(uri), Err(ApiError::PathForm), "{uri}");
        }
        assert_eq!(names_of("/stats/A/%"), Err(UNREADABLE));
        assert_eq!(names_of("/stats/A/%4"), Err(UNREADABLE));
        assert_eq!(names_of("/stats/A/%4g"), Err(UNREADABLE));
        assert_eq!(names_of("/stats/A/%E9"), Err(UNREADABLE));
        assert_eq!(names_of("/stats/A/%00"), Err(UNREADABLE));
    }

    #[test]
    fn a_prefix_can_be_anything_or_nothing() {
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
        assert_eq!(parse(&latin1, "/stats"), Err(UNREADABLE));
    }

    #[test]
    fn options_are_form_encoded_and_given_once() {
        let request = parse(&params("/stats/A/b?a&b=&tok%65n=x+y%2b&daterange=-&%00=1"), "/stats");
        assert_eq!(request, Err(UNREADABLE));
        let request = parse(&params("/stats/A/b?a&b=&tok%65n=x+y%2b&daterange=-&Token=1"), "/stats").unwrap();
        assert_eq!(request.token.as_deref(), Some("x y+"));
        assert_eq!(request.daterange.as_deref(), Some("-"));
        for query in ["token=a&token=a", "token=&token=a", "daterange=&daterange=", "x=%zz", "x=%ff", "%c3&x=%a9"] {
            let refused = parse(&params(&format!("/stats/A/b?{query}")), "/stats");
            assert!(matches!(refused, Err(ApiError::BadRequest(_))), "{query}");
        }
    }

    #[test]
    fn a_token_comes_in_the_query_or_as_bearer() {
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
    fn the_method_is_looked_at_first() {
        for method in ["POST", "get", "OPTIONS", ""] {
            let mut params = params("/nowhere?token=a&token=b");
            params.request_method = Some(method.into());
            assert_eq!(parse(&params, "/stats"), Err(ApiError::Method));
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(uri in any::<Vec<u8>>(), query in any::<Option<Vec<u8>>>(), header in any::<Vec<u8>>()) {
            let params = CgiParams {
                request_uri: Some([b"/stats/A/b/", &uri[..]].concat()),
                query_string: query,
                authorization: Some(header),
                ..params("")
            };
            let _ = parse(&params, "/stats");
            let _ = params.shown_tokens();
        }

        #[test]
        fn every_name_comes_through(name in "[^\0]{1,20}") {
            let encoded = percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC);
            let request = parse(&params(&format!("/stats/A/b/{encoded}")), "/stats").unwrap();
            prop_assert_eq!(request.folder, Some(name));
        }
    }
}
