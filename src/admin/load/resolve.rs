//! What numbers of a file stand for in the database: organizations, folders, and wall-clock times. Touches the
//! database.

use crate::admin::error::Error;
use crate::admin::load::batch::{Batch, Duration, NewFolder, Row, Start};
use crate::admin::load::problem::{Problem, Problems};
use crate::admin::load::row::ENDS_EARLY_HINT;
use crate::admin::load::time::Moment;
use crate::admin::load::zone::{Zone, city, shortest};
use crate::admin::name::shown;
use chrono::{DateTime, Datelike, NaiveDateTime};
use postgres::Transaction;
use postgres::types::ToSql;
use std::collections::{BTreeSet, HashMap};
use std::time::SystemTime;

const PLACES: &str = include_str!("sql/places.sql");
const FIND_FOLDERS: &str = include_str!("sql/find_folders.sql");
const ADD_FOLDERS: &str = include_str!("sql/add_folders.sql");
const ZONE: &str = include_str!("sql/zone.sql");

/// A company's organization, as the database knows it.
#[derive(Debug, Clone)]
pub struct Place {
    pub organization_id: i32,
    pub company: String,
    pub organization: String,
    pub zone: String,
    /// What its clocks show now, and what they showed when the file was written.
    pub now: NaiveDateTime,
    pub written: Option<NaiveDateTime>,
}

/// A folder of the file.
#[derive(Debug, Clone)]
pub struct Folder {
    pub place: usize,
    pub name: String,
    /// None: not looked up yet, or there is none and none was to be made.
    pub id: Option<i32>,
    pub is_new: bool,
}

/// When a call began and how long it was, as the database has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    pub started_at: Option<NaiveDateTime>,
    pub duration_ms: Option<i32>,
    /// When it ended, if the record has no start.
    pub ended_at: Option<NaiveDateTime>,
}

#[derive(Debug, Default)]
struct KnownZone {
    years: BTreeSet<i32>,
    changes: Vec<(i64, i32)>,
    zone: Zone,
}

#[derive(Debug, Default)]
pub struct Resolver {
    /// None: there is no such organization.
    pub places: Vec<Option<Place>>,
    pub folders: Vec<Folder>,
    /// Names of the zones that the file's own clocks have.
    zones: Vec<String>,
    known_zones: HashMap<String, KnownZone>,
    modified: Option<SystemTime>,
}

impl Resolver {
    pub fn new(modified: Option<SystemTime>) -> Self {
        Self { modified, ..Self::default() }
    }

    /// Looks up the names that a batch brings, but not its folders.
    pub fn take_names(
        &mut self,
        transaction: &mut Transaction<'_>,
        batch: &mut Batch,
        problems: &mut Problems,
    ) -> Result<(), Error> {
        let folder = |new: NewFolder| Folder { place: new.place, name: new.name, id: None, is_new: false };
        self.folders.extend(std::mem::take(&mut batch.folders).into_iter().map(folder));
        for zone in std::mem::take(&mut batch.zones) {
            let problem: Option<String> =
                transaction.query_one("select callstats.time_zone_problem($1)", &[&zone])?.try_get(0)?;
            if let Some(problem) = problem {
                return Err(Error::new(format!("time zone {} {problem}", shown(&zone)), city(&zone)));
            }
            self.zones.push(zone);
        }
        let places = std::mem::take(&mut batch.places);
        if places.is_empty() {
            return Ok(());
        }
        let companies: Vec<&str> = places.iter().map(|place| place.company.as_str()).collect();
        let organizations: Vec<&str> = places.iter().map(|place| place.organization.as_str()).collect();
        let rows = transaction.query(PLACES, &[&companies, &organizations, &self.modified])?;
        for (row, place) in rows.iter().zip(places) {
            let has_company: bool = row.try_get("has_company")?;
            let organization_id: Option<i32> = row.try_get("organization_id")?;
            let problem = if !has_company {
                Some(Problem::of_value(
                    &place.labels[0],
                    &place.company,
                    "there is no such company",
                    "callstats tenant list shows those that exist, callstats tenant add creates one",
                ))
            } else if organization_id.is_none() {
                Some(Problem::of_value(
                    &place.labels[1],
                    &place.organization,
                    format!("there is no such organization in company {}", place.company),
                    "callstats tenant list shows those that exist, callstats tenant add creates one",
                ))
            } else {
                None
            };
            if let Some(problem) = problem {
                problems.add(place.line, problem);
            }
            self.places.push(match organization_id {
                None => None,
                Some(organization_id) => Some(Place {
                    organization_id,
                    company: place.company,
                    organization: place.organization,
                    zone: row.try_get("time_zone")?,
                    now: row.try_get("now")?,
                    written: row.try_get("written")?,
                }),
            });
        }
        Ok(())
    }

    /// Finds these folders, or all that are not known yet; those that are missing are made, unless that is not wanted.
    pub fn find_folders(
        &mut self,
        transaction: &mut Transaction<'_>,
        wanted: Option<&[usize]>,
        makes: bool,
    ) -> Result<(), Error> {
        let wanted: Vec<usize> = match wanted {
            Some(wanted) => wanted.to_vec(),
            None => (0..self.folders.len()).filter(|&at| self.folders[at].id.is_none()).collect(),
        };
        let mut numbers: Vec<i32> = Vec::new();
        let mut organizations: Vec<i32> = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        for at in wanted {
            let Some(folder) = self.folders.get(at) else { continue };
            let Some(Some(place)) = self.places.get(folder.place) else { continue };
            numbers.push(i32::try_from(at).unwrap_or(i32::MAX));
            organizations.push(place.organization_id);
            names.push(&folder.name);
        }
        if numbers.is_empty() {
            return Ok(());
        }
        let parameters: [&(dyn ToSql + Sync); 3] = [&numbers, &organizations, &names];
        let find = |transaction: &mut Transaction<'_>| -> Result<HashMap<usize, i32>, Error> {
            let rows = transaction.query(FIND_FOLDERS, &parameters)?;
            rows.iter()
                .map(|row| {
                    let number: i32 = row.try_get("number")?;
                    Ok((usize::try_from(number).unwrap_or_default(), row.try_get("id")?))
                })
                .collect()
        };
        let known = find(transaction)?;
        let mut all = known.clone();
        if known.len() < numbers.len() && makes {
            transaction.execute(ADD_FOLDERS, &parameters)?;
            all = find(transaction)?;
        }
        for number in &numbers {
            let at = usize::try_from(*number).unwrap_or_default();
            self.folders[at].id = all.get(&at).copied();
            self.folders[at].is_new = !known.contains_key(&at);
        }
        Ok(())
    }

    /// The wall-clock time in the organization's zone, and the duration.
    pub fn times(&mut self, transaction: &mut Transaction<'_>, row: &Row) -> Result<Result<Times, Problem>, Error> {
        let Some(Some(place)) = self.places.get(row.place) else {
            return Ok(Ok(Times::default())); // reported once
        };
        let zone = place.zone.clone();
        let (mut began, mut ended_at) = (None, None);
        let duration_ms = match (row.duration, row.start) {
            (None, _) => None,
            (Some(Duration::Until(end)), None) => {
                ended_at = self.local(transaction, end, None, &zone)?;
                None
            }
            (Some(Duration::Milliseconds(milliseconds)), _) => Some(milliseconds),
            (Some(Duration::Until(end)), Some(start)) => {
                let instants = self.instants(transaction, start, &zone)?;
                let Some((from, micros)) = shortest(instants, self.instants(transaction, end, &zone)?) else {
                    let reason = format!("it ends at {}, before it starts at {}", end.moment, start.moment);
                    return Ok(Err(Problem::of_record(reason, ENDS_EARLY_HINT)));
                };
                began = Some(from);
                match i32::try_from((micros + 500).div_euclid(1000)) {
                    Ok(milliseconds) => Some(milliseconds),
                    Err(_) => return Ok(Err(Problem::of_record("it is longer than 2147483.647 seconds", ""))),
                }
            }
        };
        let started_at = match row.start {
            None => None,
            Some(start) => match self.local(transaction, start, began, &zone)? {
                Some(local) => Some(local),
                None => return Ok(Err(Problem::of_record("the start is out of range", ""))),
            },
        };
        Ok(Ok(Times { started_at, duration_ms, ended_at }))
    }

    /// What the clock of `zone` shows at the instant; none: at that of the moment.
    fn local(
        &mut self,
        transaction: &mut Transaction<'_>,
        start: Start,
        instant: Option<i64>,
        zone: &str,
    ) -> Result<Option<NaiveDateTime>, Error> {
        let is_own = |own: usize| self.zones.get(own).is_some_and(|own| own == zone);
        match (start.moment, start.zone) {
            (Moment::Local(local), own) if start.shift == 0 && own.is_none_or(is_own) => Ok(Some(local)),
            _ => {
                let instant = match instant {
                    Some(instant) => instant,
                    None => self.instants(transaction, start, zone)?.0,
                };
                let year = DateTime::from_timestamp_micros(instant).map_or(1970, |at| at.year());
                Ok(self.zone(transaction, zone, year)?.local(instant))
            }
        }
    }

    /// Microseconds since 1970, and the earlier ones of a wall-clock time that there is twice.
    fn instants(
        &mut self,
        transaction: &mut Transaction<'_>,
        start: Start,
        zone: &str,
    ) -> Result<(i64, Option<i64>), Error> {
        match start.moment {
            Moment::Instant(instant) => Ok((instant, None)),
            Moment::Local(local) => {
                let own = start.zone.and_then(|own| self.zones.get(own).cloned());
                let zone = own.as_deref().unwrap_or(zone);
                let (later, earlier) = self.zone(transaction, zone, local.year())?.instants(local);
                let shift = start.shift * 1000;
                Ok((later.saturating_add(shift), earlier.map(|earlier| earlier.saturating_add(shift))))
            }
        }
    }

    /// A zone, with its changes in a year and next to it.
    fn zone(&mut self, transaction: &mut Transaction<'_>, name: &str, year: i32) -> Result<&Zone, Error> {
        let is_known = self.known_zones.get(name).is_some_and(|known| known.years.contains(&year));
        if !is_known {
            let rows = transaction.query(ZONE, &[&name, &year])?;
            let known = self.known_zones.entry(name.to_owned()).or_default();
            for row in rows {
                known.changes.push((row.try_get("second")?, row.try_get("utc_offset")?));
            }
            known.years.insert(year);
            known.zone = Zone::new(known.changes.clone());
        }
        match self.known_zones.get(name) {
            Some(known) => Ok(&known.zone),
            None => Err(Error::new(format!("the database knows no time zone {name:?}"), "")),
        }
    }
}
