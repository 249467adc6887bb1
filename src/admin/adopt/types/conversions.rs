//! Names, starts and durations as tables have them, and the SQL that each becomes. Pure. Nothing here depends on the
//! time zone or the date style of a session.

use std::fmt;

/// The longest duration of a call, in milliseconds: that of callstats.call.
const LONGEST_MS: &str = "2147483647";
const LONGEST_S: &str = "2147483.647";

/// A name as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    Text {
        collation: String,
        is_deterministic: bool,
    },
    /// `char(n)`, padded with spaces that do not count.
    Padded {
        collation: String,
    },
    Integer,
    Other,
}

/// A start as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// `timestamptz`.
    Instant,
    /// Wall-clock time in the zone of the organization.
    Wall,
    /// Wall-clock time in this zone.
    WallIn(String),
    Date,
    /// Seconds or milliseconds since 1970, compared as a number of this type.
    Epoch {
        per_second: u32,
        number: &'static str,
    },
}

/// A duration as the table has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duration {
    Seconds { is_whole: bool },
    Milliseconds,
    Interval,
}

impl Name {
    /// The condition that a column has the name that an SQL expression gives, so that an index of the column can serve.
    pub fn equals(&self, column: &str, name: &str) -> String {
        match self {
            Self::Text { collation, is_deterministic: true } => format!("{column} = {name} collate {collation}"),
            Self::Text { collation, is_deterministic: false } => {
                format!("{column} = {name} collate {collation} and {column} collate \"C\" = {name}")
            }
            Self::Padded { collation } => format!("{column} = {name}::bpchar collate {collation}"),
            Self::Integer => {
                format!("{column} = case when {name} ~ '^(0|-?[1-9][0-9]{{0,17}})$' then {name}::bigint end")
            }
            Self::Other => format!("{column}::text = {name}"),
        }
    }

    /// The name as text, compared by bytes.
    pub fn text(&self, column: &str) -> String {
        format!("({column}::text collate \"C\")")
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instant => f.write_str("an instant"),
            Self::Wall => f.write_str("wall-clock time of the organization"),
            Self::WallIn(zone) => write!(f, "wall-clock time in {zone}"),
            Self::Date => f.write_str("a day"),
            Self::Epoch { per_second: 1, .. } => f.write_str("seconds since 1970"),
            Self::Epoch { .. } => f.write_str("milliseconds since 1970"),
        }
    }
}

impl Start {
    /// The conditions that a start is on the day of callstats.zone_day `z`; with a span, that it is so far around it.
    pub fn on_day(&self, start: &str, span: Option<&str>) -> String {
        let (minus, plus) = match span {
            None => (String::new(), String::new()),
            Some(span) => (format!(" - {span}"), format!(" + {span}")),
        };
        // The case is for the planner: of equality with an unknown date it expects one row in 200, and sorts.
        let exact = |condition: String| match span {
            None => format!(" and case when {condition} then true end"),
            Some(_) => String::new(),
        };
        match self {
            Self::Instant => {
                let date = format!("({start} at time zone z.callstats_zone)::date = z.callstats_date");
                format!("{start} >= z.callstats_starts{minus} and {start} < z.callstats_ends{plus}")
                    + &exact(format!("(z.callstats_is_whole or {date})"))
            }
            Self::Wall => {
                format!("{start} >= z.callstats_date{minus} and {start} < z.callstats_date + 1{plus}")
            }
            Self::WallIn(zone) => {
                let zone = literal(zone);
                // What the clock went back within the day: so much earlier and later a wall-clock time can be.
                let back = format!(
                    "greatest(interval '0', (z.callstats_ends - z.callstats_starts) - \
                     ((z.callstats_ends at time zone {zone}) - (z.callstats_starts at time zone {zone})))"
                );
                let date = format!(
                    "case when z.callstats_zone = {zone} then {start}::date \
                     else (({start} at time zone {zone}) at time zone z.callstats_zone)::date end = z.callstats_date"
                );
                // A microsecond earlier: times that a clock skipped at midnight belong to the day that it skipped to.
                format!(
                    "{start} >= ((z.callstats_starts - interval '1 microsecond') at time zone {zone}) - {back}{minus} \
                     and {start} <= (z.callstats_ends at time zone {zone}) + {back}{plus}"
                ) + &exact(date)
            }
            Self::Date if span.is_some() => {
                format!("{start} between z.callstats_date - 1 and z.callstats_date + 1")
            }
            Self::Date => format!("{start} = z.callstats_date"),
            Self::Epoch { per_second, number } => {
                let of = |moment: String| format!("(extract(epoch from {moment}) * {per_second})::{number}");
                let date = format!(
                    "(to_timestamp({start}::float8 / {per_second}) at time zone z.callstats_zone)::date = \
                     z.callstats_date"
                );
                format!(
                    "{start} >= {} and {start} < {}",
                    of(format!("(z.callstats_starts{minus})")),
                    of(format!("(z.callstats_ends{plus})"))
                ) + &exact(format!("(z.callstats_is_whole or {date})"))
            }
        }
    }

    /// The condition that a start can have a date from one up to another, in any zone; a span around it if rows are
    /// folded. Both are SQL expressions of dates. Sub-selects, so that a foreign server gets plain parameters.
    pub fn between(&self, start: &str, first: &str, last: &str, span: Option<&str>) -> String {
        let span = span.unwrap_or("interval '0'");
        let first = format!("({first})::timestamp - interval '2 days' - {span}");
        let last = format!("({last})::timestamp + interval '3 days' + {span}");
        let utc = |moment: &str| format!("(select ({moment}) at time zone 'UTC')");
        match self {
            Self::Instant => format!("{start} >= {} and {start} < {}", utc(&first), utc(&last)),
            Self::Wall | Self::WallIn(_) => format!("{start} >= (select {first}) and {start} < (select {last})"),
            Self::Date => format!("{start} >= (select ({first})::date) and {start} <= (select ({last})::date)"),
            Self::Epoch { per_second, number } => {
                let of = |moment: &str| {
                    format!("(select (extract(epoch from ({moment}) at time zone 'UTC') * {per_second})::{number})")
                };
                format!("{start} >= {} and {start} < {}", of(&first), of(&last))
            }
        }
    }

    /// The condition that a start is of the last two days.
    pub fn is_recent(&self, start: &str) -> String {
        match self {
            Self::Instant => format!("{start} >= now() - interval '2 days'"),
            Self::Wall | Self::WallIn(_) => format!("{start} >= (now() at time zone 'UTC') - interval '3 days'"),
            Self::Date => format!("{start} >= (now() at time zone 'UTC')::date - 3"),
            Self::Epoch { per_second, number } => {
                format!("{start} >= ((extract(epoch from now()) - 172800) * {per_second})::{number}")
            }
        }
    }

    /// The condition that a start is a moment which can be counted.
    pub fn is_countable(&self, start: &str) -> String {
        match self {
            Self::Instant => format!("{start} >= '1970-01-01 14:00Z' and {start} < '2100-12-31 12:00Z'"),
            Self::Epoch { per_second, .. } => {
                format!(
                    "{start} >= {} and {start} < {}",
                    50_400 * u64::from(*per_second),
                    4_133_937_600 * u64::from(*per_second)
                )
            }
            _ => format!("{start} >= '1970-01-01' and {start} < '2101-01-01'"),
        }
    }

    /// Whether the date of a start differs between zones.
    pub fn depends_on_zone(&self) -> bool {
        !matches!(self, Self::Wall | Self::Date)
    }

    /// The local date of a start.
    pub fn date(&self, start: &str, zone: &str) -> String {
        match self {
            Self::Instant => format!("({start} at time zone {zone})::date"),
            Self::Wall | Self::Date => format!("{start}::date"),
            Self::WallIn(own) => format!(
                "case when {zone} = {own} then {start}::date \
                 else (({start} at time zone {own}) at time zone {zone})::date end",
                own = literal(own)
            ),
            Self::Epoch { per_second, .. } => {
                format!("(to_timestamp({start}::float8 / {per_second}) at time zone {zone})::date")
            }
        }
    }
}

impl Duration {
    /// The condition that a duration can be counted: false for NaN and infinity, which are greater than any number.
    pub fn is_countable(self, duration: &str) -> String {
        let longest = match self {
            // Compared as the integers that they are; the fraction of the longest second cannot count.
            Self::Seconds { is_whole: true } => "2147483".to_owned(),
            Self::Seconds { is_whole: false } => LONGEST_S.to_owned(),
            Self::Milliseconds => LONGEST_MS.to_owned(),
            Self::Interval => format!("interval '{LONGEST_S} seconds'"),
        };
        format!("{duration} >= {} and {duration} <= {longest}", self.zero())
    }

    pub fn zero(self) -> &'static str {
        if self == Self::Interval { "interval '0'" } else { "0" }
    }

    /// Milliseconds of a duration that can be counted.
    pub fn milliseconds(self, duration: &str) -> String {
        match self {
            // An integer needs no rounding, which would cost more than all else of a row.
            Self::Seconds { is_whole: true } => format!("{duration}::bigint * 1000"),
            Self::Seconds { is_whole: false } => format!("round({duration}::numeric * 1000)::bigint"),
            Self::Milliseconds => format!("round({duration}::numeric)::bigint"),
            Self::Interval => format!("round(extract(epoch from {duration})::numeric * 1000)::bigint"),
        }
    }
}

/// A text as an SQL literal.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}
