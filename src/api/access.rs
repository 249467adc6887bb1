//! Tokens, and the calls that each of them opens (docs/api.md, "Tokens"). Pure: the root token comes in as text, a
//! company's as the row that the database found for it.

use crate::api::error::{ApiError, NotFound};
use crate::api::request::StatsRequest;
use crate::store::{Asker, Scope, ScopeRow};
use chrono::NaiveDate;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// SHA-256 of a token: the only form in which the database has it.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Whether a token is the root token, in a time that does not depend on how much of it is right. An empty root token
/// is nobody's.
pub fn is_root(token_sha256: &[u8; 32], root_token: Option<&str>) -> bool {
    match root_token {
        Some(root) if !root.is_empty() => token_sha256.ct_eq(&digest(root)).into(),
        _ => false,
    }
}

/// What a request may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    pub asker: Asker,
    pub scope: Scope,
    /// The current date of the organization.
    pub today: NaiveDate,
    /// Id and name of the folders that can be in the answer, in byte order of the names.
    pub folders: Vec<(i32, String)>,
}

/// Decides who may read what, in the order of the table of errors.
pub fn authorize(request: &StatsRequest, is_root: bool, row: ScopeRow) -> Result<Access, ApiError> {
    let asker = match (is_root, row.token_company_id) {
        (true, _) => Asker::Root,
        (false, Some(id)) => Asker::Company(id),
        (false, None) => return Err(ApiError::Unauthorized),
    };
    if !row.company_is_visible {
        return Err(match asker {
            Asker::Root => ApiError::NotFound(NotFound::Company(request.company.clone())),
            Asker::Company(_) => ApiError::Forbidden,
        });
    }
    let Some(organization) = row.organization else {
        return Err(ApiError::NotFound(NotFound::Organization(request.organization.clone())));
    };
    let folders = match (&request.folder, row.folder_id) {
        (None, _) => row.folders,
        (Some(name), Some(id)) => vec![(id, name.clone())],
        (Some(name), None) => return Err(ApiError::NotFound(NotFound::Folder(name.clone()))),
    };
    let scope = Scope { organization_id: organization.id, folder_id: row.folder_id };
    Ok(Access { asker, scope, today: organization.today, folders })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_token_is_compared_as_a_whole_and_never_empty() {
        assert!(is_root(&digest("secret"), Some("secret")));
        for (token, root) in [("secret", None), ("", Some("")), ("Secret", Some("secret")), ("secret ", Some("secret"))]
        {
            assert!(!is_root(&digest(token), root), "{token:?} {root:?}");
        }
    }

    #[test]
    fn digests_are_sha_256() {
        assert_eq!(digest("abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
