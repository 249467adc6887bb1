//! A connection as a session of the core: who may ask for what, folder names, daily totals. Touches the network.

use crate::database::client::{Parameter, Query, RowsError};
use crate::database::connection::Connection;
use crate::database::connection::statements::{
    IS_ADOPTED, SessionStatement, UNUSED, daily_total, folder_name, scope_row,
};
use crate::database::error::{classify, classify_adopted, is_unencodable};
use crate::store::DatabaseErrorKind::{ConnectionLost, Internal, Unavailable};
use crate::store::{DailyTotal, DatabaseError, DateRange, Scope, ScopeQuery, ScopeRow, Session, StreamError};
use postgres::error::SqlState;
use postgres::types::Type;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// No name has this character: schema.sql refuses it.
const NO_NAME: &str = "\u{1}";

impl Connection {
    /// The row of `scope.sql`. None: a name has a character that the encoding of the database lacks. One round trip,
    /// unless the schema has another version than this connection knows: the statement that fits shows it.
    fn try_look_up(&mut self, query: &ScopeQuery<'_>) -> Result<Option<ScopeRow>, DatabaseError> {
        let token = &query.token_sha256[..];
        let parameters: [Parameter<'_>; 5] = [
            (&token, Type::BYTEA),
            (&query.is_root, Type::BOOL),
            (&query.company, Type::TEXT),
            (&query.organization, Type::TEXT),
            (&query.folder, Type::TEXT),
        ];
        let mut found = None;
        let shared = self.shared.clone();
        let mut scope = |connection: &mut Self| {
            let which = if connection.has_schema_1 { SessionStatement::Scope1 } else { SessionStatement::Scope };
            connection.rows::<Infallible>(which, &parameters, &mut |row| {
                shared.is_adopted.store(row.try_get("is_adopted").unwrap_or(false), Ordering::Relaxed);
                found = Some((scope_row(&row), row.try_get("is_superseded").unwrap_or(false)));
                Ok(())
            })
        };
        let mut result = scope(self);
        let fits = match &result {
            Ok(()) => true,
            Err(RowsError::Database(error)) => self.has_schema_1 || error.code() != Some(&SqlState::UNDEFINED_TABLE),
            Err(RowsError::Receiver(never)) => match *never {},
        };
        if !fits {
            self.has_schema_1 = true;
            result = scope(self);
        }
        match result {
            Err(RowsError::Database(error)) if is_unencodable(&error) => return Ok(None),
            Err(RowsError::Database(error)) => return Err(classify(&error)),
            Err(RowsError::Receiver(never)) => match never {},
            Ok(()) => (),
        }
        let found = found.ok_or_else(|| DatabaseError::new(Internal, "scope.sql returned no row", ""))?;
        let (row, is_superseded) = found;
        if is_superseded && self.has_schema_1 {
            self.has_schema_1 = false;
            return self.try_look_up(query);
        }
        row.map(Some).map_err(|error| classify(&error))
    }

    /// A name, or one that does not exist if the encoding of the database lacks a character of it: nothing can have
    /// this name.
    fn encodable<'a>(&mut self, name: &'a str) -> Result<&'a str, DatabaseError> {
        let parameters: [Parameter<'_>; 1] = [(&name, Type::TEXT)];
        match self.client.rows::<Infallible>(None, Query::Text("select $1"), &parameters, &mut |_| Ok(())) {
            Err(RowsError::Database(error)) if is_unencodable(&error) => Ok(NO_NAME),
            Err(RowsError::Database(error)) => Err(classify(&error)),
            Err(RowsError::Receiver(never)) => match never {},
            Ok(()) => Ok(name),
        }
    }

    fn look_up_encodable(&mut self, query: &ScopeQuery<'_>) -> Result<ScopeRow, DatabaseError> {
        if let Some(row) = self.try_look_up(query)? {
            return Ok(row);
        }
        let query = ScopeQuery {
            token_sha256: query.token_sha256,
            is_root: query.is_root,
            company: self.encodable(query.company)?,
            organization: self.encodable(query.organization)?,
            folder: query.folder.map(|folder| self.encodable(folder)).transpose()?,
        };
        let row = self.try_look_up(&query)?;
        row.ok_or_else(|| DatabaseError::new(Internal, "the database cannot encode the names of a request", ""))
    }

    fn try_folder_names(
        &mut self,
        organization_id: i32,
        each: &mut dyn FnMut(i32, &str) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let parameters: [Parameter<'_>; 1] = [(&organization_id, Type::INT4)];
        let result = self.rows(SessionStatement::FolderNames, &parameters, &mut |row| {
            let (id, name) = folder_name(&row).map_err(|error| StreamError::Database(classify(&error)))?;
            each(id, name).map_err(StreamError::Receiver)
        });
        result.map_err(stream_error)
    }

    fn try_daily_totals(
        &mut self,
        scope: Scope,
        days: DateRange,
        each: &mut dyn FnMut(DailyTotal<'_>) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let is_adopted = self.shared.is_adopted.load(Ordering::Relaxed);
        let mut is_first = true;
        let result = self.daily_rows(is_adopted, scope, days, &mut |total| {
            is_first = false;
            each(total)
        });
        match result {
            // `adopt off` ran after scope.sql did.
            Err(RowsError::Database(error))
                if is_adopted
                    && is_first
                    && error.code() == Some(&SqlState::UNDEFINED_FUNCTION)
                    && !self.find_out_whether_adopted()? =>
            {
                self.daily_rows(false, scope, days, each).map_err(stream_error)
            }
            Err(RowsError::Database(error)) if is_adopted => Err(classify_adopted(&error).into()),
            result => result.map_err(stream_error),
        }
    }

    fn daily_rows(
        &mut self,
        is_adopted: bool,
        scope: Scope,
        days: DateRange,
        each: &mut dyn FnMut(DailyTotal<'_>) -> io::Result<()>,
    ) -> Result<(), RowsError<StreamError>> {
        let mut parameters: Vec<Parameter<'_>> =
            vec![(&scope.organization_id, Type::INT4), (&days.first, Type::DATE), (&days.last, Type::DATE)];
        if let Some(folder_id) = &scope.folder_id {
            parameters.push((folder_id, Type::INT4));
        }
        if is_adopted {
            parameters.extend([UNUSED, UNUSED, UNUSED]);
        }
        let which = match (&scope.folder_id, is_adopted) {
            (None, false) => SessionStatement::OrganizationDays,
            (Some(_), false) => SessionStatement::FolderDays,
            (None, true) => SessionStatement::AdoptedOrganizationDays,
            (Some(_), true) => SessionStatement::AdoptedFolderDays,
        };
        self.rows(which, &parameters, &mut |row| {
            let total = daily_total(&row).map_err(|error| StreamError::Database(classify(&error)))?;
            each(total).map_err(StreamError::Receiver)
        })
    }

    fn find_out_whether_adopted(&mut self) -> Result<bool, DatabaseError> {
        let mut is_adopted = false;
        let result = self.client.rows::<Infallible>(None, Query::Text(IS_ADOPTED), &[], &mut |row| {
            is_adopted = row.try_get(0).unwrap_or(false);
            Ok(())
        });
        match result {
            Err(RowsError::Database(error)) => return Err(classify(&error)),
            Err(RowsError::Receiver(never)) => match never {},
            Ok(()) => (),
        }
        self.shared.is_adopted.store(is_adopted, Ordering::Relaxed);
        Ok(is_adopted)
    }

    /// Notes how a statement ended. Rows that nobody takes are still to come if the receiver failed.
    fn after<T>(&mut self, result: Result<T, StreamError>) -> Result<T, StreamError> {
        match &result {
            Err(StreamError::Database(error)) => {
                self.is_broken |= matches!(error.kind, ConnectionLost | Unavailable);
            }
            Err(StreamError::Receiver(_)) => {
                self.is_broken = true;
                (self.canceller())();
            }
            Ok(_) => (),
        }
        self.last_used = Instant::now();
        result
    }
}

impl Session for Connection {
    fn look_up(&mut self, query: &ScopeQuery<'_>) -> Result<ScopeRow, DatabaseError> {
        let result = self.look_up_encodable(query);
        self.is_broken |= matches!(&result, Err(error) if matches!(error.kind, ConnectionLost | Unavailable));
        self.last_used = Instant::now();
        result
    }

    fn folder_names(
        &mut self,
        organization_id: i32,
        each: &mut dyn FnMut(i32, &str) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let result = self.try_folder_names(organization_id, each);
        self.after(result)
    }

    fn daily_totals(
        &mut self,
        scope: Scope,
        days: DateRange,
        each: &mut dyn FnMut(DailyTotal<'_>) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let result = self.try_daily_totals(scope, days, each);
        self.after(result)
    }

    fn canceller(&self) -> Box<dyn FnOnce() + Send> {
        let (token, was_cancelled) = (self.client.cancel_token(), self.was_cancelled.clone());
        let (shared, route) = (self.shared.clone(), self.route.clone());
        Box::new(move || {
            was_cancelled.store(true, Ordering::SeqCst);
            let cancelled = token.map_or(Ok(()), |token| shared.dialler.cancel(&route, &token));
            if let Err(error) = cancelled {
                log::warn!("cannot cancel the statement of a client that disconnected: {error}");
            }
        })
    }
}

fn stream_error(error: RowsError<StreamError>) -> StreamError {
    match error {
        RowsError::Database(error) => classify(&error).into(),
        RowsError::Receiver(error) => error,
    }
}
