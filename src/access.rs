//! Tokens and what they open. Pure: the root token comes in as text, the company's as what the database knows.

use crate::error::{ApiError, Missing};
use crate::request::StatsRequest;
use chrono::NaiveDate;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// SHA-256 of a token, in which form the database knows it.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Whether the token is the root token, in a time that tells nothing about how much of it was right. An empty root
/// token is nobody's.
pub fn is_root(token: &str, root_token: Option<&str>) -> bool {
    match root_token {
        Some(root) if !root.is_empty() => digest(token).ct_eq(&digest(root)).into(),
        _ => false,
    }
}

/// What the database found for a token and a path: the row of `scope.sql`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The token is a company's.
    pub token_is_known: bool,
    /// The company of the path exists and the token may ask for it.
    pub company_is_found: bool,
    /// The organization of the path, in that company.
    pub organization: Option<Organization>,
    /// The folder of the path, in that organization.
    pub folder_id: Option<i32>,
    /// Where the path names no folder: id and name of each folder of the organization.
    pub folders: Vec<(i32, String)>,
}

/// An organization as the statements need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// Its id.
    pub id: i32,
    /// The current date in its time zone.
    pub today: NaiveDate,
}

/// What a request may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The organization.
    pub organization: Organization,
    /// The only folder to read, where the path names one.
    pub only_folder: Option<i32>,
    /// Id and name of each folder that can be in the answer.
    pub folders: Vec<(i32, String)>,
}

/// Decides who may read what, in the order of the contract's error table.
pub fn scope(request: &StatsRequest, is_root: bool, found: Found) -> Result<Scope, ApiError> {
    if !is_root && !found.token_is_known {
        return Err(ApiError::Unauthorized);
    }
    if !found.company_is_found {
        return Err(if is_root {
            ApiError::NotFound(Missing::Company(request.company.clone()))
        } else {
            ApiError::Forbidden
        });
    }
    let Some(organization) = found.organization else {
        return Err(ApiError::NotFound(Missing::Organization(request.organization.clone())));
    };
    match (&request.folder, found.folder_id) {
        (None, _) => Ok(Scope { organization, only_folder: None, folders: found.folders }),
        (Some(name), Some(id)) => Ok(Scope { organization, only_folder: Some(id), folders: vec![(id, name.clone())] }),
        (Some(name), None) => Err(ApiError::NotFound(Missing::Folder(name.clone()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_token_is_compared_whole_and_never_empty() {
        assert!(is_root("secret", Some("secret")));
        for (token, root) in [("secret", None), ("", Some("")), ("Secret", Some("secret")), ("secret ", Some("secret"))]
        {
            assert!(!is_root(token, root), "{token:?} {root:?}");
        }
    }

    #[test]
    fn digests_are_sha_256() {
        assert_eq!(digest("abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
