//! Manual pages and completions, from the description of the command line. Touches the folder that it is given.

use crate::admin::error::Error;
use crate::admin::{Output, output};
use crate::cli;
use clap_complete::Shell;
use clap_mangen::Man;
use std::fs;
use std::path::Path;

/// Prints the completions of a shell.
pub fn completions(shell: Shell, out: &mut Output<'_>) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "callstats", &mut script);
    output::text(out.stdout, &String::from_utf8_lossy(&script))
}

/// Writes a page for each command of the operator, such as callstats-tenant-add.8. That of the worker, callstats.8, is
/// written by hand.
pub fn write(folder: &Path) -> Result<(), Error> {
    let mut command = cli::command();
    command.build();
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        write_pages(folder, inner)?;
    }
    Ok(())
}

fn write_pages(folder: &Path, command: &clap::Command) -> Result<(), Error> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let path = folder.join(format!("{name}.8"));
    let page = Man::new(command.clone()).title(name).section("8").date("").source("callstats").manual("callstats");
    let mut text = Vec::new();
    let written = page.render(&mut text).and_then(|()| fs::write(&path, text));
    written.map_err(|error| Error::new(format!("cannot write {}: {error}", path.display()), "create its folder"))?;
    command
        .get_subcommands()
        .filter(|inner| inner.get_name() != "help")
        .try_for_each(|inner| write_pages(folder, inner))
}
