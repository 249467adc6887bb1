//! The arguments of `callstats adopt`, of which a mapping has an option for each of its keys. Pure.

use clap::{Arg, ArgMatches, Args, FromArgMatches, Subcommand, value_parser};
use std::path::PathBuf;

#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum AdoptCommand {
    /// Shows what a mapping finds in a table, and how fast, and changes nothing
    #[command(after_help = "\
Examples:
  callstats adopt try --preset fusionpbx
  callstats adopt try --preset flat --relation public.cdr --time-zone Europe/Berlin

Exit codes:
  0  done
  1  failed: the mapping does not fit
  2  usage error")]
    Try {
        #[command(flatten)]
        mapping: MappingArguments,
    },
    /// Adds the calls of a table to the answers, by a mapping, or replaces the mapping of this name
    #[command(after_help = "\
Companies, organizations and folders that the table names are created.

Examples:
  callstats adopt on --preset fusionpbx
  callstats adopt on mapping.toml --name queues

Exit codes:
  0  done
  1  failed, and nothing was changed
  2  usage error")]
    On {
        #[command(flatten)]
        mapping: MappingArguments,
    },
    /// Takes the calls of a mapping, or of all, out of the answers
    #[command(after_help = "\
Companies, organizations and folders stay.

Example:
  callstats adopt off flat

Exit codes:
  0  done
  1  failed, and nothing was changed
  2  usage error")]
    Off {
        /// The mapping's name [default: all]
        name: Option<String>,
    },
    /// Prints which tables are read, and whether their mappings fit
    #[command(after_help = "\
Example:
  callstats adopt status

Exit codes:
  0  done
  1  failed, or a mapping does not fit its table
  2  usage error")]
    Status,
    /// Creates the names that are new in the tables
    #[command(after_help = "\
Looks at the last days, and once a day at all rows. callstats-sync.timer runs it each minute. Names are created in one
transaction, and daily sums in several.

Example:
  callstats adopt sync --full

Exit codes:
  0  done
  1  failed; what was summed before stays, and the next run continues
  2  usage error")]
    Sync {
        /// Looks at all rows
        #[arg(long)]
        full: bool,
    },
}

/// The keys of a mapping and what each is.
pub const MAPPING_KEYS: [(&str, &str); 21] = [
    ("name", "of the mapping; default: the preset's, else \"calls\""),
    ("preset", "asterisk, asterisk-start, flat, freeswitch, fusionpbx"),
    ("relation", "schema.table, a join or a sub-select"),
    ("call", "rows with equal values are one call"),
    ("leg_order", "the first row by it gives company, organization and folder"),
    ("company", "expression"),
    ("organization", "expression"),
    ("folder", "expression"),
    ("agent", "expression"),
    ("start", "expression: timestamp, date, number since 1970, or text by start_pattern or start_unit"),
    ("duration", "expression: a number with unit, an interval, a time, or text with unit"),
    ("filter", "condition of the rows that count"),
    ("time_zone", "of starts without a zone, and of new organizations"),
    ("span", "the longest time from the first to the last row of a call; default 4 hours"),
    ("start_unit", "s or ms, for numbers and for text of them"),
    ("start_pattern", "of YYYY MM DD HH24 MI SS MS, for text"),
    ("unit", "of the duration: s, ms, days, or hms for text"),
    ("horizon", "days older than this are summed by sync, such as '7 days'; default: none are"),
    ("changed", "expression: when a row was last changed, a timestamptz; for sums behind the horizon"),
    ("trunks", "regular expression: peers of Asterisk that are no agents"),
    ("about", "what counts as a call; printed by try"),
];

/// A mapping: a file, and an option for each of its keys.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct MappingArguments {
    pub file: Option<PathBuf>,
    /// Keys with their values, in the order of [`MAPPING_KEYS`].
    pub options: Vec<(String, String)>,
}

impl Args for MappingArguments {
    fn augment_args(command: clap::Command) -> clap::Command {
        let file = Arg::new("mapping file").value_name("FILE").value_parser(value_parser!(PathBuf));
        let command = command.arg(file.help("The mapping in TOML; options win over it"));
        MAPPING_KEYS.iter().fold(command, |command, &(key, help)| {
            let option = Arg::new(key).long(long(key)).value_name("VALUE").allow_hyphen_values(true);
            let option = if key.contains('_') { option.alias(key) } else { option };
            command.arg(option.help(help))
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

/// The option of a key, in the spelling of the other options; that of the file is understood, too.
fn long(key: &'static str) -> &'static str {
    match key {
        "leg_order" => "leg-order",
        "time_zone" => "time-zone",
        "start_unit" => "start-unit",
        "start_pattern" => "start-pattern",
        other => other,
    }
}

impl FromArgMatches for MappingArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |&(key, _): &(&str, &str)| Some((key.to_owned(), matches.get_one::<String>(key)?.clone()));
        let file = matches.get_one("mapping file").cloned();
        Ok(Self { file, options: MAPPING_KEYS.iter().filter_map(value).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
