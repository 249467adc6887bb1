//! `FCGI_WEB_SERVER_ADDRS`: who may connect over TCP (FastCGI 1.0, section 3.2). Pure, except for
//! [`AllowedPeers::from_env`].

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;

/// The name of the variable.
const VARIABLE: &str = "FCGI_WEB_SERVER_ADDRS";

/// The addresses of the web servers that may connect over TCP. Unix sockets have permissions for that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedPeers {
    /// None: all may.
    addresses: Option<Vec<IpAddr>>,
}

/// An address that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPeers {
    text: String,
}

impl fmt::Display for InvalidPeers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{VARIABLE} has {:?}, which is no IP address. Hint: give IPv4 and IPv6 addresses, separated by commas, \
             or remove the variable to let everybody connect",
            self.text
        )
    }
}

impl std::error::Error for InvalidPeers {}

impl AllowedPeers {
    /// Everybody may connect.
    pub fn all() -> Self {
        Self::default()
    }

    /// Reads the variable `FCGI_WEB_SERVER_ADDRS`. Not set or empty: everybody may connect.
    pub fn from_env() -> Result<Self, InvalidPeers> {
        let Some(value) = std::env::var_os(VARIABLE) else { return Ok(Self::all()) };
        value
            .into_string()
            .map_err(|value: OsString| InvalidPeers { text: value.to_string_lossy().into_owned() })?
            .parse()
    }

    /// Whether a peer of this address may connect.
    pub fn allow(&self, address: IpAddr) -> bool {
        self.addresses.as_ref().is_none_or(|addresses| addresses.contains(&address.to_canonical()))
    }
}

impl std::str::FromStr for AllowedPeers {
    type Err = InvalidPeers;

    fn from_str(text: &str) -> Result<Self, InvalidPeers> {
        if text.trim().is_empty() {
            return Ok(Self::all());
        }
        let address = |part: &str| {
            let part = part.trim();
            let address: Result<IpAddr, _> = part.parse();
            address.map(|address| address.to_canonical()).map_err(|_| InvalidPeers { text: part.into() })
        };
        Ok(Self { addresses: Some(text.split(',').map(address).collect::<Result<_, _>>()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(list: &str, address: &str) -> bool {
        list.parse::<AllowedPeers>().unwrap().allow(address.parse().unwrap())
    }

    #[test]
    fn addresses_are_compared_as_addresses() {
        assert!(allows("", "192.0.2.1") && allows(" ", "::1"));
        assert!(allows("127.0.0.1, ::1", "::1") && allows("127.0.0.1 ,::1", "127.0.0.1"));
        assert!(allows("2001:DB8:0:0::1", "2001:db8::1"));
        assert!(allows("127.0.0.1", "::ffff:127.0.0.1") && allows("::ffff:127.0.0.1", "127.0.0.1"));
        assert!(!allows("127.0.0.1", "127.0.0.2") && !allows("::1", "127.0.0.1"));
    }

    #[test]
    fn malformed_addresses_are_named() {
        for (list, part) in [("localhost", "localhost"), ("127.0.0.1,", ""), ("127.0.0.1, 10.0.0.0/8", "10.0.0.0/8")] {
            let error = list.parse::<AllowedPeers>().unwrap_err().to_string();
            assert!(error.contains(&format!("{part:?}")), "{error}");
        }
    }
}
