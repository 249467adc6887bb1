//! TLS to PostgreSQL, verified as libpq verifies it. Touches the files of certificates and keys, for each connection
//! anew.
//!
//! OpenSSL rather than rustls, because what psql accepts must be accepted: a self-signed certificate as its own root,
//! certificates of X.509 version 1, names in the subject's common name, RSA-PSS.

use crate::database::url::{Host, RootCertificates, SslMode, TlsOptions};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::SslVerifyMode;
use openssl::ssl::{ConnectConfiguration, SslConnector, SslConnectorBuilder, SslFiletype, SslMethod, SslVersion};
use openssl::x509::store::X509Lookup;
use openssl::x509::store::{X509StoreBuilder, X509StoreBuilderRef};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509Ref, X509VerifyResult};
use postgres_openssl::{TlsConnector, TlsStream};
use std::error::Error;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tokio_postgres::Socket;
use tokio_postgres::tls::MakeTlsConnect;

/// The result that OpenSSL gets if the certificate is that of another host.
const OTHER_NAME: X509VerifyResult = X509VerifyResult::APPLICATION_VERIFICATION;

/// The connector that encrypts connections to this host. Fails if a file cannot be used; the message names it.
pub fn connector(options: &TlsOptions, host: &Host) -> Result<TlsConnector, String> {
    let mut ssl = configuration(options, host)?;
    let is_name = !host.name.is_empty() && host.name.parse::<IpAddr>().is_err();
    ssl.set_use_server_name_indication(is_name && !options.without_sni);
    ssl.set_verify_hostname(false); // OpenSSL's rules are not libpq's
    Ok(TlsConnector::new(ssl, &host.name))
}

/// Whether the certificate of a server is verified, be it without its name.
pub fn verifies(options: &TlsOptions) -> bool {
    match &options.root {
        RootCertificates::None => false,
        RootCertificates::System => true,
        RootCertificates::File(path) => path.exists(),
    }
}

fn configuration(options: &TlsOptions, host: &Host) -> Result<ConnectConfiguration, String> {
    let internal = |error: ErrorStack| format!("OpenSSL fails: {error}");
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(internal)?;
    builder.set_min_proto_version(options.min_version.and_then(version)).map_err(internal)?;
    builder.set_max_proto_version(options.max_version.and_then(version)).map_err(internal)?;
    postgres_openssl::set_postgresql_alpn(&mut builder).map_err(internal)?;
    builder.set_verify(SslVerifyMode::NONE);
    let verifies = trust(options, &mut builder)?;
    present_certificate(options, &mut builder)?;
    let mut ssl = builder.build().configure().map_err(internal)?;
    if verifies && options.mode == SslMode::VerifyFull {
        if host.name.is_empty() {
            return Err("sslmode=verify-full needs the name of the host. Hint: give host= besides hostaddr=".into());
        }
        let name = host.name.clone();
        ssl.set_verify_callback(SslVerifyMode::PEER, move |is_valid, context| {
            let is_server = context.error_depth() == 0;
            if !is_valid || !is_server {
                return is_valid;
            }
            let matches = context.current_cert().is_some_and(|certificate| matches(certificate, &name));
            if !matches {
                context.set_error(OTHER_NAME);
            }
            matches
        });
    } else if verifies {
        ssl.set_verify(SslVerifyMode::PEER);
    }
    Ok(ssl)
}

fn version(name: &str) -> Option<SslVersion> {
    match name {
        "TLSv1" => Some(SslVersion::TLS1),
        "TLSv1.1" => Some(SslVersion::TLS1_1),
        "TLSv1.2" => Some(SslVersion::TLS1_2),
        "TLSv1.3" => Some(SslVersion::TLS1_3),
        _ => None,
    }
}

/// Loads root certificates and revoked ones. Whether there are any to verify with: as in libpq, that depends on the
/// file first and on the mode second.
fn trust(options: &TlsOptions, builder: &mut SslConnectorBuilder) -> Result<bool, String> {
    let unusable = |path: &Path, error: &dyn std::fmt::Display| {
        format!("cannot use the root certificates in {}: {error}. Hint: correct sslrootcert", path.display())
    };
    match &options.root {
        RootCertificates::System => (),
        RootCertificates::File(path) if path.exists() => {
            let empty = X509StoreBuilder::new().map_err(|error| unusable(path, &error))?;
            builder.set_cert_store(empty.build());
            builder.set_ca_file(path).map_err(|error| unusable(path, &error))?;
        }
        RootCertificates::File(path) if options.mode >= SslMode::VerifyCa => {
            return Err(unusable(path, &"it does not exist"));
        }
        RootCertificates::None if options.mode >= SslMode::VerifyCa => {
            return Err("no root certificates are given. Hint: give sslrootcert=".into());
        }
        RootCertificates::File(_) | RootCertificates::None => return Ok(false),
    }
    let store = builder.cert_store_mut();
    if load_revoked(options, store) {
        let flags = X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL;
        store.set_flags(flags).map_err(|error| format!("OpenSSL fails: {error}"))?;
    }
    Ok(true)
}

/// Loads lists of revoked certificates. Whether certificates are to be checked against them: as in libpq, a file that
/// cannot be read makes the folder count for nothing as well.
fn load_revoked(options: &TlsOptions, store: &mut X509StoreBuilderRef) -> bool {
    let (file, folder) = (options.revoked.as_ref(), options.revoked_folder.as_ref());
    if let Some(file) = file {
        let Ok(lookup) = store.add_lookup(X509Lookup::file()) else { return false };
        // libpq takes certificates from there, too: then each certificate lacks its list.
        if lookup.load_crl_file(file, SslFiletype::PEM).is_err()
            && lookup.load_cert_file(file, SslFiletype::PEM).is_err()
        {
            return false;
        }
    }
    if let Some(folder) = folder {
        let Some(folder) = folder.to_str() else { return false };
        let lookup = store.add_lookup(X509Lookup::hash_dir());
        if lookup.and_then(|lookup| lookup.add_dir(folder, SslFiletype::PEM)).is_err() {
            return false;
        }
    }
    file.is_some() || folder.is_some()
}

/// Loads the client's certificate, if there is one.
fn present_certificate(options: &TlsOptions, builder: &mut SslConnectorBuilder) -> Result<(), String> {
    let Some(certificate) = options.certificate.as_ref().filter(|path| path.exists()) else { return Ok(()) };
    let unusable = |path: &Path, option: &str, error: &dyn std::fmt::Display| {
        format!("cannot use {}: {error}. Hint: correct {option}", path.display())
    };
    builder.set_certificate_chain_file(certificate).map_err(|error| unusable(certificate, "sslcert", &error))?;
    let Some(path) = &options.key else { return Err("sslcert is given without a key. Hint: give sslkey=".into()) };
    let unusable = |error: &dyn std::fmt::Display| unusable(path, "sslkey", error);
    let metadata = fs::metadata(path).map_err(|error| unusable(&error))?;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(unusable(&"other users can read the key; chmod 600 it"));
    }
    let bytes = fs::read(path).map_err(|error| unusable(&error))?;
    let key = private_key(&bytes, options).map_err(|error| unusable(&error))?;
    builder.set_private_key(&key).map_err(|error| unusable(&error))?;
    builder.check_private_key().map_err(|error| unusable(&error))
}

fn private_key(bytes: &[u8], options: &TlsOptions) -> Result<PKey<Private>, ErrorStack> {
    let password = options.key_password.as_ref().map(|password| password.0.as_bytes()).unwrap_or_default();
    // The callback keeps OpenSSL from asking for the password on the terminal.
    let pem = PKey::private_key_from_pem_callback(bytes, |buffer| {
        let length = password.len().min(buffer.len());
        buffer[..length].copy_from_slice(&password[..length]);
        Ok(length)
    });
    pem.or_else(|error| PKey::private_key_from_der(bytes).map_err(|_| error))
}

/// Why a handshake failed: OpenSSL's reasons without its numbers and places.
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    let Some(cause) = error.source().and_then(|cause| cause.downcast_ref::<openssl::ssl::Error>()) else {
        return format!("TLS failed, {text}");
    };
    let verification = text.strip_prefix(&cause.to_string()).and_then(|tail| tail.strip_prefix(": "));
    if verification == Some(OTHER_NAME.error_string()) {
        return "TLS failed, the certificate of the server is not valid for the name of the host".into();
    }
    let reasons = cause.ssl_error().map(|stack| stack.errors().iter().filter_map(|error| error.reason()).collect());
    let reasons = reasons.map_or_else(|| cause.to_string(), |reasons: Vec<_>| reasons.join(", "));
    let text = verification.map_or_else(|| reasons.clone(), |verification| format!("{reasons} ({verification})"));
    format!("TLS failed, {text}")
}

/// Whether a certificate is that of a host, by libpq's rules: the common name counts if no alternative name is of the
/// host's kind.
fn matches(certificate: &X509Ref, host: &str) -> bool {
    let address = host.parse::<IpAddr>().ok();
    let mut common_name_counts = true;
    for name in certificate.subject_alt_names().iter().flatten() {
        if let Some(name) = name.dnsname() {
            common_name_counts &= address.is_some();
            if name_matches(name, host) {
                return true;
            }
        } else if let (Some(bytes), Some(address)) = (name.ipaddress(), address) {
            common_name_counts = false;
            let is_same = match address {
                IpAddr::V4(address) => address.octets() == *bytes,
                IpAddr::V6(address) => address.octets() == *bytes,
            };
            if is_same {
                return true;
            }
        }
    }
    let common_name = certificate.subject_name().entries_by_nid(Nid::COMMONNAME).next();
    let common_name = common_name.and_then(|name| name.data().to_string().ok());
    common_name_counts && common_name.is_some_and(|name| name_matches(&name, host))
}

/// Without regard to case; a wildcard stands for the leftmost label only.
fn name_matches(name: &str, host: &str) -> bool {
    let wildcard = name.strip_prefix('*').filter(|domain| domain.len() > 1 && domain.starts_with('.'));
    if name.contains('\0') {
        return false;
    }
    name.eq_ignore_ascii_case(host)
        || wildcard
            .zip(host.find('.'))
            .is_some_and(|(domain, dot)| dot > 0 && domain.eq_ignore_ascii_case(&host[dot..]))
}

/// For the crate `postgres`, which opens its connections itself.
#[derive(Clone)]
pub struct MakeConnector {
    pub options: TlsOptions,
    pub host: Host,
}

impl MakeTlsConnect<Socket> for MakeConnector {
    type Stream = TlsStream<Socket>;
    type TlsConnect = TlsConnector;
    type Error = String;

    fn make_tls_connect(&mut self, _: &str) -> Result<TlsConnector, String> {
        connector(&self.options, &self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_libpq() {
        for (name, host, expected) in [
            ("db.example", "DB.example", true),
            ("*.example", "db.example", true),
            ("*.example", "a.db.example", false),
            ("*.example", "example", false),
            ("*.example", ".example", false),
            ("*", "db", false),
            ("d*.example", "db.example", false),
            ("db.example\0.evil", "db.example", false),
        ] {
            assert_eq!(name_matches(name, host), expected, "{name} {host}");
        }
    }
}
