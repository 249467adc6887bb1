//! The arguments of `callstats load`. Pure.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

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
    /// They are passed over, whatever they were loaded with
    Skip,
    /// They are an error
    Refuse,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct LoadArguments {
    /// Files, compressed ones too; - is standard input
    #[arg(value_name = "FILE", required_unless_present = "print_preset")]
    pub files: Vec<PathBuf>,
    /// Prints what would be loaded, and writes nothing
    #[arg(long)]
    pub check: bool,
    /// One JSON object instead of a summary
    #[arg(long)]
    pub json: bool,
    /// A built-in mapping: see --print-preset
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// A mapping in TOML; options win over it
    #[arg(long, value_name = "FILE")]
    pub map: Option<PathBuf>,
    /// Prints a preset, to begin a mapping with
    #[arg(long, value_name = "NAME", exclusive = true)]
    pub print_preset: Option<String>,
    /// Existing calls that differ
    #[arg(long, value_enum, default_value = "replace")]
    pub existing: ExistingCalls,
    /// Known files [default: skip; other mapping: refuse]
    #[arg(long, value_enum)]
    pub if_loaded: Option<KnownFiles>,
    /// Loads a known file again: delete its calls first, or those without ids count twice
    #[arg(long, conflicts_with = "if_loaded")]
    pub again: bool,
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
    /// Unit of the duration: s, ms, us, ns, min, h, days, hms
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<String>,
    /// csv, json or xml [default: by the content]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Encoding, such as windows-1252 [default: UTF-8, or UTF-16 by the content]
    #[arg(long, value_name = "LABEL")]
    pub encoding: Option<String>,
    /// Delimiter of the columns [default: by the header]
    #[arg(long, value_name = "CHARACTER")]
    pub delimiter: Option<String>,
    /// Quote character; '' for no quotes
    #[arg(long, value_name = "CHARACTER")]
    pub quote: Option<String>,
    /// Escape character before a quote in a column [default: a second quote]
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
