//! What became of a file, for people and for programs. Pure.

use crate::admin::load::resolve::{Folder, Place};
use crate::admin::load::statistics::{Statistics, thousands};
use crate::admin::name::shown;
use serde::Serialize;

/// One folder, in the order of the file.
#[derive(Debug, Serialize)]
pub struct FolderLine {
    pub company: String,
    pub organization: String,
    pub folder: String,
    pub is_new: bool,
    pub calls: u64,
    pub avg_duration_seconds: f64,
}

#[derive(Debug, Serialize)]
pub struct Summary {
    pub file: String,
    /// Only looked at.
    pub is_check: bool,
    pub records: u64,
    /// Left out by the filter.
    pub filtered: u64,
    pub calls: u64,
    pub new: u64,
    pub unchanged: u64,
    /// Other values than before.
    pub changed: u64,
    /// Whether those that changed were left as they were.
    pub changed_were_left: bool,
    pub days: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_day: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_day: Option<String>,
    pub avg_duration_seconds: f64,
    pub folders: Vec<FolderLine>,
    pub ignored_columns: Vec<String>,
    pub warnings: Vec<String>,
    /// Calls that were loaded before, and not compared.
    pub passed_over: u64,
    /// When the whole file was loaded before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loaded_before: Option<String>,
    /// The last line, which was still being written and is left for the next time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_line: Option<u64>,
}

impl Summary {
    /// Folders of a file, by name.
    pub fn folders(statistics: &Statistics, folders: &[Folder], places: &[Option<Place>]) -> Vec<FolderLine> {
        let mut lines: Vec<FolderLine> = statistics
            .folders
            .iter()
            .filter_map(|(at, total)| {
                let folder = folders.get(*at)?;
                let place = places.get(folder.place)?.as_ref()?;
                Some(FolderLine {
                    company: place.company.clone(),
                    organization: place.organization.clone(),
                    folder: folder.name.clone(),
                    is_new: folder.is_new,
                    calls: total.calls,
                    avg_duration_seconds: total.average(),
                })
            })
            .collect();
        lines.sort_by(|one, other| {
            (&one.company, &one.organization, &one.folder).cmp(&(&other.company, &other.organization, &other.folder))
        });
        lines
    }

    /// What happened, in one line.
    pub fn line(&self) -> String {
        let mut line = format!(
            "{}: {}{} new, {} unchanged, {} changed",
            self.file,
            if self.is_check { "would be " } else { "" },
            thousands(self.new),
            thousands(self.unchanged),
            thousands(self.changed)
        );
        if self.changed > 0 && self.changed_were_left {
            line.push_str(" and left as they were");
        }
        if self.passed_over > 0 {
            line.push_str(&format!(", {} loaded before", thousands(self.passed_over)));
        }
        let mut about = vec![format!("{} calls of {} records", thousands(self.calls), thousands(self.records))];
        if self.filtered > 0 {
            about.push(format!("{} left out by the filter", thousands(self.filtered)));
        }
        if let Some((first, last)) = self.first_day.as_ref().zip(self.last_day.as_ref()) {
            about.push(if first == last {
                first.clone()
            } else {
                format!("{} days from {first} to {last}", self.days)
            });
        }
        match self.folders.iter().filter(|folder| folder.is_new).count() {
            0 => {}
            1 => about.push("1 new folder".into()),
            new => about.push(format!("{new} new folders")),
        }
        line.push_str(&format!(" ({})", about.join(", ")));
        if let Some(at) = &self.loaded_before {
            line.push_str(&format!("; all of it was loaded before, at {at}"));
        }
        line.push('\n');
        line
    }

    /// What operators should look at.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.ignored_columns.is_empty() {
            let names: Vec<String> = self.ignored_columns.iter().map(|name| shown(name)).collect();
            notes.push(format!("{}: these columns are not used: {}", self.file, names.join(", ")));
        }
        if let Some(line) = self.left_line {
            notes.push(format!(
                "{}: line {line} has no end yet, because the file is still being written: it is left for the next time",
                self.file
            ));
        }
        notes.extend(self.warnings.iter().map(|warning| format!("{}: warning: {warning}", self.file)));
        notes
    }

    /// The folders, for a table.
    pub fn rows(&self) -> Vec<Vec<String>> {
        self.folders
            .iter()
            .map(|folder| {
                vec![
                    folder.company.clone(),
                    folder.organization.clone(),
                    folder.folder.clone(),
                    if folder.is_new { "new" } else { "" }.into(),
                    thousands(folder.calls),
                    format!("{:.3}", folder.avg_duration_seconds),
                ]
            })
            .collect()
    }
}
