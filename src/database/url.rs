//! `DATABASE_URL` as libpq reads it, with what the crate `postgres` leaves out: verified TLS. Touches the files of
//! certificates, and only in [`Tls::connector`].

use crate::database::error::describe;
use postgres::config::SslMode;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::borrow::Cow;
use std::path::PathBuf;
use std::str::FromStr;
use tokio_postgres_rustls::MakeRustlsConnect;
use url::form_urlencoded;

/// Where the database is and how to get there.
#[derive(Debug, Clone, Default)]
pub struct DatabaseUrl {
    /// Hosts, user, password, database and the like.
    pub config: postgres::Config,
    /// Whether and how to encrypt.
    pub tls: Tls,
}

/// There is nothing between in the clear and verified: encryption to whoever answers protects from nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Tls {
    /// `sslmode` absent, `disable`, `allow` or `prefer`.
    #[default]
    Off,
    /// `sslmode` `require`, `verify-ca` or `verify-full`: certificate and host name are verified. `sslrootcert` names
    /// a file with the authorities to trust; absent or `system`: those of the system.
    Verified(Option<PathBuf>),
}

impl FromStr for DatabaseUrl {
    type Err = String;

    /// The errors name options and hold no values.
    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, options) = if text.starts_with("postgresql://") || text.starts_with("postgres://") {
            from_uri(text)
        } else {
            from_pairs(text)?
        };
        let value = |name: &str| options.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let root_certificates = value("sslrootcert").filter(|path| *path != "system").map(PathBuf::from);
        let tls = match value("sslmode").unwrap_or("prefer") {
            "disable" | "allow" | "prefer" => Tls::Off,
            "require" | "verify-ca" | "verify-full" => Tls::Verified(root_certificates),
            _ => return Err("sslmode is none of disable, allow, prefer, require, verify-ca, verify-full".into()),
        };
        let mut config: postgres::Config = rest.parse().map_err(|error| describe(&error))?;
        config.ssl_mode(if tls == Tls::Off { SslMode::Disable } else { SslMode::Require });
        Ok(Self { config, tls })
    }
}

type Options = Vec<(String, String)>;

fn is_ours(name: &str) -> bool {
    matches!(name, "sslmode" | "sslrootcert")
}

/// Takes our options out of the query of a URI.
fn from_uri(text: &str) -> (Cow<'_, str>, Options) {
    let Some((base, query)) = text.split_once('?') else { return (text.into(), Vec::new()) };
    let mut options = Vec::new();
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| {
            let found = form_urlencoded::parse(pair.as_bytes()).next();
            let ours = found.filter(|(name, _)| is_ours(name));
            let is_kept = ours.is_none();
            options.extend(ours.map(|(name, value)| (name.into_owned(), value.into_owned())));
            is_kept
        })
        .collect();
    let rest = if kept.is_empty() { base.into() } else { format!("{base}?{}", kept.join("&")) };
    (rest.into(), options)
}

/// Takes our options out of `key = 'value'` pairs, quoted and escaped as libpq has it.
fn from_pairs(text: &str) -> Result<(Cow<'_, str>, Options), String> {
    let mut rest = String::new();
    let mut options = Vec::new();
    let mut left = text.trim_start();
    while !left.is_empty() {
        let (name, after) = left.split_once('=').ok_or("an option without a value")?;
        let after = after.trim_start();
        let (value, length) = pair_value(after)?;
        if is_ours(name.trim_end()) {
            options.push((name.trim_end().to_owned(), value));
        } else {
            rest = format!("{rest}{name}={} ", &after[..length]);
        }
        left = after[length..].trim_start();
    }
    Ok((rest.into(), options))
}

/// The value at the start of a text, and how many bytes it takes there.
fn pair_value(text: &str) -> Result<(String, usize), String> {
    let is_quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(is_quoted.into());
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if is_quoted => return Ok((value, at + 1)),
            space if !is_quoted && space.is_whitespace() => return Ok((value, at)),
            other => value.push(other),
        }
    }
    if is_quoted { Err("a quote that is not closed".into()) } else { Ok((value, text.len())) }
}

impl Tls {
    /// What makes encrypted connections; none where there are to be none.
    pub fn connector(&self) -> Result<Option<MakeRustlsConnect>, String> {
        let Self::Verified(file) = self else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        match file {
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            Some(path) => {
                let unreadable = |error: &dyn std::fmt::Display| {
                    format!("cannot read the certificates in {}: {error}: correct sslrootcert", path.display())
                };
                for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
                    let certificate = certificate.map_err(|error| unreadable(&error))?;
                    roots.add(certificate).map_err(|error| unreadable(&error))?;
                }
            }
        }
        if roots.is_empty() {
            return Err("no certificate authority to trust: install ca-certificates, or give sslrootcert".into());
        }
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Some(MakeRustlsConnect::new(config)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_verified_or_off() {
        let path = Some(PathBuf::from("/a b.pem"));
        for (text, tls) in [
            ("host=x user=y", Tls::Off),
            ("host=x sslmode=prefer", Tls::Off),
            ("sslmode = require host=x", Tls::Verified(None)),
            (r"host=x sslmode='verify-full' sslrootcert=/a\ b.pem", Tls::Verified(path.clone())),
            ("host=x sslrootcert = '/a b.pem' sslmode=verify-ca user=y", Tls::Verified(path.clone())),
            ("host=x sslmode=require sslrootcert=system", Tls::Verified(None)),
            ("postgresql://u:p@h1,h2:5433/db", Tls::Off),
            ("postgres://h/db?sslmode=require&sslrootcert=%2Fa%20b.pem&connect_timeout=3", Tls::Verified(path)),
        ] {
            let read: DatabaseUrl = text.parse().unwrap();
            assert_eq!(read.tls, tls, "{text}");
            assert!(!read.config.get_hosts().is_empty(), "{text}");
        }
    }

    #[test]
    fn other_options_stay_as_they_are() {
        let read: DatabaseUrl = r"host='/a b' sslmode=require password='it\'s ' dbname=x".parse().unwrap();
        assert_eq!(read.config.get_password(), Some(&b"it's "[..]));
        assert_eq!(read.config.get_dbname(), Some("x"));
        let read: DatabaseUrl = "postgresql://h/db?sslmode=require&connect_timeout=3".parse().unwrap();
        assert_eq!(read.config.get_connect_timeout().map(std::time::Duration::as_secs), Some(3));
    }

    #[test]
    fn what_cannot_be_read_is_named_without_its_value() {
        for text in ["host=x sslmode=s3cret", "host=x password='s3cret", "s3cret", "postgresql://h/db?bogus=s3cret"] {
            let error = text.parse::<DatabaseUrl>().unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert!(Tls::Verified(Some("/nowhere".into())).connector().is_err());
    }
}
