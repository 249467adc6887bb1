//! The arguments of each command, with their help. Pure. Manual pages and completions are made from this, too.

mod adopt;
mod load;

pub use adopt::{AdoptCommand, MAPPING_KEYS, MappingArguments};
pub use load::{ExistingCalls, KnownFiles, LoadArguments};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

/// Daily call statistics for each folder, over FastCGI or CGI.
#[derive(Debug, Parser)]
#[command(
    name = "callstats",
    disable_help_subcommand = true,
    override_usage = "\
callstats                    FastCGI worker until SIGTERM, if standard input is a listening socket;
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
  2  usage error")]
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
  1  at least one file was not loaded; the output names each that was not
  2  usage error")]
    Load(Box<LoadArguments>),
    /// Prints the completions of a shell
    #[command(after_help = "\
Example:
  callstats completions bash > /etc/bash_completion.d/callstats

Exit codes:
  0  done
  1  standard output cannot be written
  2  usage error")]
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
  2  usage error"
    )]
    Manual { folder: PathBuf },
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
  2  usage error")]
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
  2  usage error")]
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
  2  usage error")]
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
  2  usage error")]
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
  2  usage error")]
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
  2  usage error")]
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
  2  usage error")]
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
  2  usage error")]
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
  2  usage error")]
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
  2  usage error")]
    Version {
        /// One JSON object instead of lines
        #[arg(long)]
        json: bool,
    },
}
