//! The address of `callstats --listen`, in the spellings of php-fpm and nginx, and who may connect to it. Pure.

use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};
use std::path::PathBuf;

/// What the path of a Unix socket has room for (unix(7): 108 bytes with the NUL at its end).
const LONGEST_PATH: usize = 107;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// `/path/to.sock`, also as `unix:/path/to.sock`.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

/// Who may connect to a socket in the file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketAccess {
    /// The bits of chmod(2).
    pub mode: Option<u32>,
    /// A name, or a number.
    pub group: Option<String>,
}

impl ListenAddress {
    /// Parses the value of `--listen`. The error is a message with a hint.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refused = |problem: &str, hint: String| Err(format!("--listen {text:?} {problem}. Hint: use {hint}"));
        let path = text.strip_prefix("unix:").unwrap_or(text);
        if path.starts_with('/') {
            let path = format!("/{}", path.trim_start_matches('/'));
            return if path.ends_with('/') {
                refused("names a folder", format!("{path}callstats.sock"))
            } else if path.len() > LONGEST_PATH {
                refused("is too long for a Unix socket", format!("a path of up to {LONGEST_PATH} bytes"))
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        if text.contains("://") {
            return refused("is a URL", "/path/to.sock or host:port".into());
        }
        if text.starts_with('@') {
            return refused("is an abstract socket, which no mode protects", "/path/to.sock".into());
        }
        if path.contains('/') || path.len() < text.len() {
            return refused("is a relative path", "an absolute one, such as /run/callstats/callstats.sock".into());
        }
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
        let port = text.trim_start_matches(['*', ':']);
        if is_port(port) {
            let hint = format!("127.0.0.1:{port} for this host, or 0.0.0.0:{port} or [::]:{port} for every address");
            return refused("names no host", hint);
        }
        if text.starts_with('[') {
            return match text.parse::<SocketAddrV6>() {
                Ok(address) if address.port() != 0 => Ok(Self::Tcp(text.into())),
                _ => refused("is not an IPv6 address with a port", "[::1]:9000, for example".into()),
            };
        }
        match text.rsplit_once(':') {
            _ if text.parse::<Ipv6Addr>().is_ok() || text.matches(':').count() > 1 => {
                let address = text.rsplit_once(':').filter(|(host, _)| host.parse::<Ipv6Addr>().is_ok());
                let hint = address.map(|(host, port)| format!("[{host}]:{port}")).unwrap_or("[::1]:9000".into());
                refused("is an IPv6 address without brackets", hint)
            }
            Some((host, port)) if !host.is_empty() && !host.contains(char::is_whitespace) => {
                if is_port(port) {
                    Ok(Self::Tcp(text.into()))
                } else {
                    refused("has an invalid port", format!("{host}:9000, or another port from 1 to 65535"))
                }
            }
            None if text.parse::<IpAddr>().is_ok() => refused("has no port", format!("{text}:9000, for example")),
            _ => refused("is neither a path nor host:port", "/path/to.sock or 127.0.0.1:9000".into()),
        }
    }
}

/// The bits of a mode in octal digits: 660 or 0660.
pub fn parse_mode(text: &str) -> Option<u32> {
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| is_octal && *mode <= 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_addresses_with_a_port_are_accepted() {
        for path in ["/run/x.sock", "unix:/run/x.sock", "unix:///run/x.sock"] {
            assert_eq!(ListenAddress::parse(path), Ok(ListenAddress::Unix("/run/x.sock".into())));
        }
        for address in ["127.0.0.1:9000", "[::1]:9000", "[::]:1", "localhost:65535", "0.0.0.0:9000"] {
            assert_eq!(ListenAddress::parse(address), Ok(ListenAddress::Tcp(address.into())));
        }
    }

    #[test]
    fn other_spellings_have_a_hint_with_the_right_one() {
        for (text, hint) in [
            ("", "/path/to.sock or 127.0.0.1:9000"),
            ("9000", "127.0.0.1:9000 for this host"),
            (":9000", "127.0.0.1:9000 for this host"),
            ("*:9000", "127.0.0.1:9000 for this host"),
            ("127.0.0.1", "127.0.0.1:9000"),
            ("127.0.0.1:", "127.0.0.1:9000"),
            ("127.0.0.1:0", "from 1 to 65535"),
            ("127.0.0.1:65536", "from 1 to 65535"),
            ("localhost", "/path/to.sock or 127.0.0.1:9000"),
            ("::1:9000", "[::1]:9000"),
            ("::1", "[::]:1"),
            ("[::1]", "[::1]:9000"),
            ("[x]:9000", "[::1]:9000"),
            ("./x.sock", "an absolute one"),
            ("unix:x.sock", "an absolute one"),
            ("unix:", "an absolute one"),
            ("/run/", "/run/callstats.sock"),
            ("@callstats", "/path/to.sock"),
            ("tcp://127.0.0.1:9000", "/path/to.sock or host:port"),
            (&format!("/{}", "x".repeat(107)), "up to 107 bytes"),
        ] {
            let error = ListenAddress::parse(text).unwrap_err();
            assert!(error.split_once(". Hint: ").is_some_and(|(_, found)| found.contains(hint)), "{error}");
        }
    }

    #[test]
    fn a_mode_is_octal() {
        assert_eq!(["0660", "660", "0600", "777"].map(parse_mode), [0o660, 0o660, 0o600, 0o777].map(Some));
        for wrong in ["", "rw", "66", "0o660", "0888", "1777", "00660", "+660", "-660"] {
            assert_eq!(parse_mode(wrong), None, "{wrong}");
        }
    }
}
