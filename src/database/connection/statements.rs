//! The statements that a session runs, each a file in `sql/`, and what their rows mean. Pure.

use crate::database::client::Parameter;
use crate::store::{DailyTotal, Organization, ScopeRow};
use postgres::types::Type;
use postgres::{Row, Statement};

const SCOPE: &str = include_str!("../sql/scope.sql");
/// The same for version 1 of the schema.
const SCOPE_1: &str = include_str!("../sql/scope_1.sql");
const FOLDER_NAMES: &str = include_str!("../sql/folder_names.sql");
/// The daily totals of all folders of an organization.
pub const ORGANIZATION_DAYS: &str = include_str!("../sql/organization_days.sql");
const FOLDER_DAYS: &str = include_str!("../sql/folder_days.sql");
/// The same over callstats.calls_between(), which exists while a mapping of `callstats adopt` is on.
pub const ADOPTED_ORGANIZATION_DAYS: &str = include_str!("../sql/adopted_organization_days.sql");
const ADOPTED_FOLDER_DAYS: &str = include_str!("../sql/adopted_folder_days.sql");
/// Whether callstats.calls_between() exists.
pub const IS_ADOPTED: &str = "select to_regprocedure('callstats.calls_between(integer, date, date)') is not null";

/// The statements of a session.
#[derive(Clone, Copy)]
pub enum SessionStatement {
    Scope,
    Scope1,
    FolderNames,
    OrganizationDays,
    FolderDays,
    AdoptedOrganizationDays,
    AdoptedFolderDays,
}

impl SessionStatement {
    /// They differ in the number of parameters, but for those of two versions of the schema. So a statement that meets
    /// another one of its name, prepared by another client of the same pooler, is an error and never a wrong answer.
    pub fn text(self) -> &'static str {
        match self {
            Self::Scope => SCOPE,
            Self::Scope1 => SCOPE_1,
            Self::FolderNames => FOLDER_NAMES,
            Self::OrganizationDays => ORGANIZATION_DAYS,
            Self::FolderDays => FOLDER_DAYS,
            Self::AdoptedOrganizationDays => ADOPTED_ORGANIZATION_DAYS,
            Self::AdoptedFolderDays => ADOPTED_FOLDER_DAYS,
        }
    }
}

/// A parameter of the adopted statements that only makes their number another one.
pub const UNUSED: Parameter<'static> = (&None::<i32>, Type::INT4);

/// Those that are prepared, by [`SessionStatement`].
pub type Statements = [Option<Statement>; 7];

pub fn scope_row(row: &Row) -> Result<ScopeRow, postgres::Error> {
    let organization: Option<i32> = row.try_get("organization_id")?;
    let today = row.try_get::<_, Option<_>>("today")?;
    let ids: Option<Vec<i32>> = row.try_get("folder_ids")?;
    let names: Option<Vec<String>> = row.try_get("folder_names")?;
    Ok(ScopeRow {
        token_company_id: row.try_get("token_company_id")?,
        token_name: row.try_get("token_name")?,
        company_is_visible: row.try_get("company_is_visible")?,
        organization: organization.zip(today).map(|(id, today)| Organization { id, today }),
        folder_id: row.try_get("folder_id")?,
        folders: ids.unwrap_or_default().into_iter().zip(names.unwrap_or_default()).collect(),
    })
}

pub fn folder_name(row: &Row) -> Result<(i32, &str), postgres::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

pub fn daily_total(row: &Row) -> Result<DailyTotal<'_>, postgres::Error> {
    Ok(DailyTotal {
        date: row.try_get(0)?,
        folder_id: row.try_get(1)?,
        agent_id: row.try_get(2)?,
        calls: row.try_get(3)?,
        duration_ms: row.try_get(4)?,
    })
}
