//! How the commands write their results: tables for people, JSON for programs. Touches only the writer that it is
//! given.

use crate::admin::error::Error;
pub use crate::admin::escape::escape;
use crate::api::response::write_json;
use serde::Serialize;
use std::io::Write;

/// Writes a text.
pub fn text(out: &mut dyn Write, text: &str) -> Result<(), Error> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Error::of_output(&error))
}

/// Writes one JSON value and a line end.
pub fn json(out: &mut dyn Write, value: &impl Serialize) -> Result<(), Error> {
    let mut bytes = Vec::new();
    write_json(&mut bytes, value);
    bytes.push(b'\n');
    out.write_all(&bytes).and_then(|()| out.flush()).map_err(|error| Error::of_output(&error))
}

/// Writes a table with a line for each row, under a header; control characters are escaped.
pub fn table(out: &mut dyn Write, header: &[&str], rows: &[Vec<String>]) -> Result<(), Error> {
    let escaped = |cell: &String| cell.chars().map(escape).collect::<String>();
    let header: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
    let lines: Vec<Vec<String>> =
        std::iter::once(&header).chain(rows).map(|row| row.iter().map(escaped).collect()).collect();
    let mut widths = vec![0; header.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut written = String::new();
    for line in &lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        written.push_str(cells.join("  ").trim_end());
        written.push('\n');
    }
    text(out, &written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_harmless() {
        let mut out = Vec::new();
        let rows = [vec!["é".to_owned(), "b\n\x1b[31m".to_owned()], vec!["long".into(), String::new()]];
        table(&mut out, &["x", "y"], &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "x     y\né     b\\n\\u{1b}[31m\nlong\n");
    }
}
