//! The arguments of each command, with their help. Pure. Manual pages and completions are made from this, too.

use clap::{Arg, ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum, value_parser};
use clap_complete::Shell;
use std::path::PathBuf;

/// Daily call statistics for each folder, over FastCGI or CGI.
#[derive(Debug, Parser)]
#[command(
    name = "callstats",
    disable_help_subcommand = true,
    override_usage = "callstats                    FastCGI worker until SIGTERM, if standard input is a listening socket;
                                    answers one CGI request, if GATEWAY_INTERFACE is set
       callstats --listen ADDRESS   binds /path/to.sock or host:port, then FastCGI worker
       callstats COMMAND ...        a command of the operator, see below
       callstats --version | --help"
)]
pub struct Cli {
    /// Binds /path/to.sock or host:port, then serves FastCGI
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,

    /// Mode of that socket in the file system [default: CALLSTATS_LISTEN_MODE]
    #[arg(long, value_name = "MODE", requires = "listen")]
    pub listen_mode: Option<String>,

    /// Its group, by name or number [default: CALLSTATS_LISTEN_GROUP]
    #[arg(long, value_name = "GROUP", requires = "listen")]
    pub listen_group: Option<String>,

    /// Prints the version
    #[arg(short = 'V', long, exclusive = true)]
    pub version: bool,

    /// Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]
    #[arg(long, value_name = "URL", global = true)]
    pub database: Option<String>,

    #[command(subcommand)]
    pub command: Option<OperatorCommand>,
}

/// What an operator types.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum OperatorCommand {
    /// Verifies the installation
    #[command(after_help = "\
Example:
  callstats check --env-file /etc/callstats/callstats.env

Exit codes:
  0  all checks passed, perhaps with warnings
  1  a check failed
  2  the arguments are wrong")]
    Check {
        /// One JSON object instead of lines
        #[arg(long)]
        json: bool,
        /// The variables of the worker [default: /etc/callstats/callstats.env, if DATABASE_URL is not set]
        #[arg(long, value_name = "FILE")]
        env_file: Option<PathBuf>,
    },
    /// Companies, organizations and folders
    #[command(subcommand, disable_help_subcommand = true)]
    Tenant(TenantCommand),
    /// Tokens of companies
    #[command(subcommand, disable_help_subcommand = true)]
    Token(TokenCommand),
    /// The schema in the database
    #[command(subcommand, disable_help_subcommand = true)]
    Schema(SchemaCommand),
    /// Tables of calls that exist already, read in place
    #[command(subcommand, disable_help_subcommand = true)]
    Adopt(AdoptCommand),
    /// Loads calls from files: CSV, JSON or XML
    #[command(after_help = "\
Each file is loaded completely or not at all. A file, or a beginning of one, that was loaded before does not count
again. Without a mapping the columns are company, organization, folder, agent, start, seconds and call, in any order.
docs/loading.md explains mappings, and how records become calls.

Examples:
  callstats load calls.csv
  callstats load --check --preset asterisk --company acme --organization support Master.csv
  callstats load --map export.toml export-*.csv.gz

Exit codes:
  0  done
  1  a file was not loaded; the others were
  2  the arguments are wrong")]
    Load(Box<LoadArguments>),
    /// Prints the completions of a shell
    #[command(after_help = "\
Example:
  callstats completions bash > /etc/bash_completion.d/callstats

Exit codes:
  0  done
  1  standard output cannot be written
  2  the arguments are wrong")]
    Completions { shell: Shell },
    /// Writes the manual pages of the commands into a folder
    #[command(
        hide = true,
        after_help = "\
Example:
  callstats manual deploy/man

Exit codes:
  0  done
  1  the folder cannot be written
  2  the arguments are wrong"
    )]
    Manual { folder: PathBuf },
}

/// What becomes of calls that are there with other values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExistingCalls {
    /// They get the values of the file
    Replace,
    /// They stay as they are
    Leave,
}

/// What becomes of files that were loaded before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KnownFiles {
    /// They are passed over
    Skip,
    /// They are an error
    Refuse,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct LoadArguments {
    /// Files, compressed ones too; - is standard input
    #[arg(value_name = "FILE", required_unless_present = "print_preset")]
    pub files: Vec<PathBuf>,
    /// Shows what would come, and writes nothing
    #[arg(long)]
    pub check: bool,
    /// One JSON object instead of a summary
    #[arg(long)]
    pub json: bool,
    /// A mapping that is there already: see --print-preset
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// A mapping in TOML; options win over it
    #[arg(long, value_name = "FILE")]
    pub map: Option<PathBuf>,
    /// Prints a preset, to begin a mapping with
    #[arg(long, value_name = "NAME", exclusive = true)]
    pub print_preset: Option<String>,
    /// Calls that are there and differ
    #[arg(long, value_enum, default_value = "replace")]
    pub existing: ExistingCalls,
    /// Files that were loaded before
    #[arg(long, value_enum, default_value = "skip")]
    pub if_loaded: KnownFiles,
    /// The company of all calls
    #[arg(long, value_name = "NAME")]
    pub company: Option<String>,
    /// The organization of all calls
    #[arg(long, value_name = "NAME")]
    pub organization: Option<String>,
    /// The folder of all calls
    #[arg(long, value_name = "NAME")]
    pub folder: Option<String>,
    /// The column of call, company, organization, folder, agent, start or duration
    #[arg(long, value_name = "FIELD=COLUMN")]
    pub column: Vec<String>,
    /// Only records for which this holds, such as disposition=ANSWERED or billsec>0
    #[arg(long, value_name = "CONDITION")]
    pub filter: Vec<String>,
    /// How starts are written: 'DD.MM.YYYY HH24:MI' or '%d/%m/%Y %H:%M'
    #[arg(long, value_name = "PATTERN")]
    pub start_pattern: Option<String>,
    /// Starts are numbers since 1970: s, ms, us, ns; days are those of spreadsheets
    #[arg(long, value_name = "UNIT")]
    pub start_unit: Option<String>,
    /// IANA zone of starts without an offset [default: that of the organization]
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// Of the duration: s, ms, us, ns, min, h, days, hms
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<String>,
    /// csv, json or xml [default: by the content]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Such as windows-1252 [default: UTF-8, or UTF-16 by the content]
    #[arg(long, value_name = "LABEL")]
    pub encoding: Option<String>,
    /// Between columns [default: by the header]
    #[arg(long, value_name = "CHARACTER")]
    pub delimiter: Option<String>,
    /// Around columns; '' is none
    #[arg(long, value_name = "CHARACTER")]
    pub quote: Option<String>,
    /// Before a quote in a column [default: a second quote]
    #[arg(long, value_name = "CHARACTER")]
    pub escape: Option<String>,
    /// The decimal point [default: . and with the delimiter ; also a comma]
    #[arg(long, value_name = "CHARACTER")]
    pub decimal: Option<String>,
    /// The first line is a record; columns are called 1, 2, ...
    #[arg(long)]
    pub no_header: bool,
    /// Names for the columns
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Where records are: in JSON a path, in XML an element
    #[arg(long, value_name = "PATH")]
    pub records: Option<String>,
}

/// A company, one of its organizations, or a folder of that.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TenantName {
    /// The company's short name
    pub company: String,
    /// The organization's short name
    pub organization: Option<String>,
    /// The folder's name
    pub folder: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum TenantCommand {
    /// Lists companies with their organizations and folders
    #[command(after_help = "\
Examples:
  callstats tenant list
  callstats tenant list --json

Exit codes:
  0  done
  1  failed
  2  the arguments are wrong")]
    List {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Adds a company, an organization or a folder, with those above it
    #[command(after_help = "\
What exists is kept, and reported; the time zone of an organization that exists is changed if one is given.

Example:
  callstats tenant add acme support Sales --time-zone Europe/Berlin

Exit codes:
  0  done
  1  failed, and nothing was changed
  2  the arguments are wrong")]
    Add {
        #[command(flatten)]
        name: TenantName,
        /// IANA name of the organization's time zone, in which its days begin and end [default: UTC]
        #[arg(long, value_name = "ZONE", requires = "organization")]
        time_zone: Option<String>,
        /// One JSON object instead of a summary
        #[arg(long)]
        json: bool,
    },
    /// Renames a company, an organization or a folder
    #[command(after_help = "\
Examples:
  callstats tenant rename acme --to acme-eu
  callstats tenant rename acme support Sales --to 'Sales EU'

Exit codes:
  0  done
  1  failed, and nothing was changed
  2  the arguments are wrong")]
    Rename {
        #[command(flatten)]
        name: TenantName,
        /// The new name of the last one
        #[arg(long, value_name = "NAME")]
        to: String,
        /// One JSON object instead of a summary
        #[arg(long)]
        json: bool,
    },
    /// Deletes a company, an organization or a folder, with all that is in it
    #[command(after_help = "\
Refused while there are calls, unless --with-calls is given. That asks first.

Examples:
  callstats tenant delete acme support Sales
  callstats tenant delete acme --with-calls

Exit codes:
  0  done
  1  failed or refused, and nothing was changed
  2  the arguments are wrong")]
    Delete {
        #[command(flatten)]
        name: TenantName,
        /// Deletes the calls, too
        #[arg(long)]
        with_calls: bool,
        /// Does not ask
        #[arg(long)]
        yes: bool,
        /// One JSON object instead of a summary
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum TokenCommand {
    /// Creates a token for a company, and prints it, this once
    #[command(after_help = "\
Tokens count side by side. To rotate one without a gap: add another, let clients use it, revoke the first. The log of
the worker names the token of each request.

Examples:
  callstats token add acme --name reports-2027
  callstats token add acme --name trial --expires 2027-01-01

Exit codes:
  0  done
  1  failed, and there is no new token
  2  the arguments are wrong")]
    Add {
        /// The company's short name
        company: String,
        /// What to call the token, unique in the company
        #[arg(long, value_name = "NAME")]
        name: String,
        /// First day (UTC) or moment from which it does not count: 2027-01-01, 2027-01-01T12:00:00+01:00
        #[arg(long, value_name = "DATE")]
        expires: Option<String>,
        /// One JSON object instead of the token alone
        #[arg(long)]
        json: bool,
    },
    /// Lists the tokens of all companies, or of one, without their values
    #[command(after_help = "\
Examples:
  callstats token list
  callstats token list acme --json

Exit codes:
  0  done
  1  failed
  2  the arguments are wrong")]
    List {
        /// The company's short name
        company: Option<String>,
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Revokes a token, from the next request on
    #[command(after_help = "\
Example:
  callstats token revoke acme reports-2026

Exit codes:
  0  done
  1  failed, and the token still counts
  2  the arguments are wrong")]
    Revoke {
        /// The company's short name
        company: String,
        /// The token's name
        name: String,
        /// One JSON object instead of a summary
        #[arg(long)]
        json: bool,
    },
}

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
  2  the arguments are wrong")]
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
  2  the arguments are wrong")]
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
  2  the arguments are wrong")]
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
  2  the arguments are wrong")]
    Status,
    /// Creates the names that are new in the tables
    #[command(after_help = "\
Looks at the last days, and once a day at all rows. callstats-sync.timer runs it each minute.

Example:
  callstats adopt sync --full

Exit codes:
  0  done
  1  failed, and nothing was changed
  2  the arguments are wrong")]
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
    ("start", "expression: a timestamp, a date, a number since 1970, or text with start_pattern"),
    ("duration", "expression: a number with unit, an interval, a time, or text with unit"),
    ("filter", "condition of the rows that count"),
    ("time_zone", "of starts without a zone, and of new organizations"),
    ("span", "the longest time from the first to the last row of a call; default 4 hours"),
    ("start_unit", "s or ms, for numbers"),
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

/// An SQL file of deploy/ that is in the executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Script {
    /// Tables, rules and the worker's role
    Schema,
    /// Daily sums, exact to the last call
    Rollup,
    /// Removes the daily sums
    RollupRemove,
    /// Partitions by month
    Partitions,
    /// Calls on several servers
    Shards,
    /// What adopted tables need; `adopt on` runs it by itself
    Adopt,
}

#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum SchemaCommand {
    /// Creates or upgrades the schema, or one of its extensions
    #[command(after_help = "\
Runs the file that `callstats schema print` prints, as psql would: as a role that may create schemas and roles. Safe to
run again.

Examples:
  callstats schema install --database 'host=/run/postgresql dbname=calls user=postgres'
  callstats schema install rollup

Exit codes:
  0  done
  1  failed; the transaction that failed changed nothing
  2  the arguments are wrong")]
    Install {
        #[arg(value_enum, default_value = "schema")]
        script: Script,
        /// One JSON object instead of a summary
        #[arg(long)]
        json: bool,
    },
    /// Prints the SQL, for psql
    #[command(after_help = "\
Example:
  callstats schema print rollup | psql -X -v ON_ERROR_STOP=1 -d DATABASE

Exit codes:
  0  done
  1  standard output cannot be written
  2  the arguments are wrong")]
    Print {
        #[arg(value_enum, default_value = "schema")]
        script: Script,
    },
    /// Prints the version of the schema in the database, and its extensions
    #[command(after_help = "\
Example:
  callstats schema version --json

Exit codes:
  0  the schema has the version of this executable
  1  it has another version, does not exist, or cannot be read
  2  the arguments are wrong")]
    Version {
        /// One JSON object instead of lines
        #[arg(long)]
        json: bool,
    },
}
