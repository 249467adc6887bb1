//! The parameters of a CGI request (RFC 3875, section 4.1), however they were transported: environment variables or
//! FastCGI name-value pairs. Pure.

use std::borrow::Cow;
use url::form_urlencoded;

/// Which of the parameters has the path (`CALLSTATS_PATH_SOURCE`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PathSource {
    /// `REQUEST_URI`, as the client sent it; without it the other.
    #[default]
    RequestUri,
    /// `SCRIPT_NAME` and `PATH_INFO`, as the web server rewrote it. `%2F` is a slash in them. Apache's mod_proxy_fcgi
    /// has the path in `SCRIPT_FILENAME` instead, encoded.
    PathInfo,
}

impl PathSource {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "request-uri" => Some(Self::RequestUri),
            "path-info" => Some(Self::PathInfo),
            _ => None,
        }
    }
}

/// The parameters that count, as bytes: a web server passes on what the client sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgiParams {
    /// `REQUEST_METHOD`.
    pub request_method: Option<Vec<u8>>,
    /// `REQUEST_URI`: path and query as they were sent. Not in RFC 3875, but all web servers have it.
    pub request_uri: Option<Vec<u8>>,
    /// `SCRIPT_NAME`: the first part of the path, decoded.
    pub script_name: Option<Vec<u8>>,
    /// `PATH_INFO`: the rest of the path, decoded.
    pub path_info: Option<Vec<u8>>,
    /// The path of the URL in `SCRIPT_FILENAME`, still encoded: where mod_proxy_fcgi sends the request to.
    pub proxied_path: Option<Vec<u8>>,
    /// `QUERY_STRING`, as it was sent.
    pub query_string: Option<Vec<u8>>,
    /// `HTTP_AUTHORIZATION`.
    pub authorization: Option<Vec<u8>>,
    /// `CALLSTATS_PROBE` is set: a request of monitoring. No header of a client can set a parameter of this name.
    pub is_probe: bool,
}

impl CgiParams {
    /// Collects the parameters from wherever they are.
    pub fn collect(mut value: impl FnMut(&str) -> Option<Vec<u8>>) -> Self {
        Self {
            request_method: value("REQUEST_METHOD"),
            request_uri: value("REQUEST_URI").filter(|uri| !uri.is_empty()),
            script_name: value("SCRIPT_NAME"),
            path_info: value("PATH_INFO"),
            proxied_path: value("SCRIPT_FILENAME").and_then(|name| path_of_proxy_url(&name).map(<[u8]>::to_vec)),
            query_string: value("QUERY_STRING"),
            // Each internal redirect of Apache renames what a rewrite rule has set.
            authorization: [
                "HTTP_AUTHORIZATION",
                "REDIRECT_HTTP_AUTHORIZATION",
                "REDIRECT_REDIRECT_HTTP_AUTHORIZATION",
            ]
            .into_iter()
            .find_map(&mut value),
            is_probe: value("CALLSTATS_PROBE").is_some_and(|value| !value.is_empty()),
        }
    }

    /// The parameters with the path where it is looked for.
    pub fn with_path_from(&self, source: PathSource) -> Cow<'_, Self> {
        let is_there = self.script_name.is_some() || self.path_info.is_some();
        if source == PathSource::RequestUri || self.request_uri.is_none() || !is_there {
            return Cow::Borrowed(self);
        }
        // With PATH_INFO, SCRIPT_FILENAME is the name of a file.
        let request_uri = self.proxied_path.clone().filter(|_| self.path_info.is_none());
        // The query of a rewritten address may be another, too; without one of its own it is the client's.
        let query_string = Some(self.raw_query().to_vec());
        Cow::Owned(Self { request_uri, query_string, ..self.clone() })
    }

    /// Whether the method is HEAD, which gets the headers of GET and no body.
    pub fn is_head(&self) -> bool {
        self.request_method.as_deref() == Some(b"HEAD")
    }

    /// The path as it arrived, without the query.
    pub fn raw_path(&self) -> Cow<'_, [u8]> {
        match &self.request_uri {
            Some(uri) => uri.split(|&byte| byte == b'?').next().unwrap_or_default().into(),
            None => {
                [self.script_name.as_deref(), self.path_info.as_deref()].map(Option::unwrap_or_default).concat().into()
            }
        }
    }

    /// The query as it arrived.
    pub fn raw_query(&self) -> &[u8] {
        match (&self.query_string, &self.request_uri) {
            (Some(query), _) => query,
            (None, Some(uri)) => uri.splitn(2, |&byte| byte == b'?').nth(1).unwrap_or_default(),
            (None, None) => b"",
        }
    }

    /// Every token that the client presented, also in a request that is refused: no log may hold them. The query is
    /// parsed here once more than in [`crate::api::request`], because that one stops at the first error.
    pub fn presented_tokens(&self) -> Vec<String> {
        let pairs = form_urlencoded::parse(self.raw_query());
        let mut tokens: Vec<String> =
            pairs.filter(|(name, _)| name.eq_ignore_ascii_case("token")).map(|(_, value)| value.into_owned()).collect();
        if let Some(header) = &self.authorization {
            let header = String::from_utf8_lossy(header);
            tokens.push(header.split_once(' ').map_or(&*header, |(_, token)| token.trim()).to_owned());
        }
        tokens
    }
}

/// `/path` of `proxy:fcgi://host/path?query`.
fn path_of_proxy_url(name: &[u8]) -> Option<&[u8]> {
    let url = name.strip_prefix(b"proxy:")?;
    let scheme = url.windows(3).position(|bytes| bytes == b"://")?;
    let rest = url.get(scheme + 3..)?;
    let path = rest.get(rest.iter().position(|&byte| byte == b'/')?..)?;
    path.split(|&byte| byte == b'?').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_counts_under_each_name_that_a_redirect_gives_it() {
        let collect = |known: &[&str]| {
            let values: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
            let params = CgiParams::collect(|name| values.iter().find(|known| *known == name).map(|_| name.into()));
            params.authorization.map(|name| String::from_utf8_lossy(&name).into_owned())
        };
        let names = ["HTTP_AUTHORIZATION", "REDIRECT_HTTP_AUTHORIZATION", "REDIRECT_REDIRECT_HTTP_AUTHORIZATION"];
        for (at, name) in names.iter().enumerate() {
            assert_eq!(collect(&names[at..]).as_deref(), Some(*name));
        }
        assert_eq!(collect(&["AUTHORIZATION", "X_REDIRECT_HTTP_AUTHORIZATION"]), None);
    }

    #[test]
    fn the_path_comes_from_where_it_is_looked_for() {
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let rewritten = CgiParams {
            request_uri: text("/api/v1/acme/a%20b?daterange=-"),
            script_name: text("/stats"),
            path_info: text("/acme/a b"),
            ..CgiParams::default()
        };
        assert_eq!(&*rewritten.with_path_from(PathSource::RequestUri).raw_path(), b"/api/v1/acme/a%20b");
        let read = rewritten.with_path_from(PathSource::PathInfo);
        assert_eq!((&*read.raw_path(), read.raw_query()), (&b"/stats/acme/a b"[..], &b"daterange=-"[..]));
        let by_apache = CgiParams {
            script_name: text("/api/v1/acme/a%20b"),
            path_info: None,
            proxied_path: path_of_proxy_url(b"proxy:fcgi://callstats/stats/acme/a%2Fb?x=/y").map(<[u8]>::to_vec),
            ..rewritten.clone()
        };
        assert_eq!(&*by_apache.with_path_from(PathSource::PathInfo).raw_path(), b"/stats/acme/a%2Fb");
        assert_eq!(&*by_apache.with_path_from(PathSource::RequestUri).raw_path(), b"/api/v1/acme/a%20b");
        for other in ["/usr/lib/cgi-bin/callstats", "proxy:", "proxy:fcgi://callstats", "fcgi://callstats/x"] {
            assert_eq!(path_of_proxy_url(other.as_bytes()), None);
        }
        let without = CgiParams { script_name: None, path_info: None, ..rewritten };
        assert_eq!(&*without.with_path_from(PathSource::PathInfo).raw_path(), b"/api/v1/acme/a%20b");
    }
}
