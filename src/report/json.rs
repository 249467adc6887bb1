//! Entries as a JSON array (docs/api.md, "Answer"). Pure.

use super::entries::{self, EntryFormat};
use super::seconds::Seconds;
use crate::api::response::write_json;
use chrono::NaiveDate;
use serde::{Serialize, Serializer};

pub struct Json;

#[derive(Serialize)]
struct Entry<'a> {
    date: Date,
    folder: &'a str,
    calls: i128,
    avg_duration_seconds: Seconds,
}

#[derive(Serialize)]
struct Agent<'a> {
    agent_id: &'a str,
    calls: i128,
    avg_duration_seconds: Seconds,
}

/// `YYYYMMDD`.
struct Date(NaiveDate);

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.format("%Y%m%d"))
    }
}

impl EntryFormat for Json {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.push(b'[');
    }

    fn separate(&mut self, out: &mut Vec<u8>) {
        out.push(b',');
    }

    fn start_entry(&mut self, entry: &entries::Entry<'_>, out: &mut Vec<u8>) {
        let avg_duration_seconds = Seconds::average(entry.sum);
        let object =
            Entry { date: Date(entry.date), folder: entry.folder, calls: entry.sum.calls, avg_duration_seconds };
        write_json(out, &object);
        out.pop(); // the brace: the agents go in before it
        if entry.has_agents {
            out.extend_from_slice(b",\"agents\":[");
        }
    }

    fn agent(&mut self, agent: &entries::Agent<'_>, out: &mut Vec<u8>) {
        if !agent.is_first {
            out.push(b',');
        }
        let avg_duration_seconds = Seconds::average(agent.sum);
        write_json(out, &Agent { agent_id: agent.agent_id, calls: agent.sum.calls, avg_duration_seconds });
    }

    fn end_entry(&mut self, entry: &entries::Entry<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(if entry.has_agents { b"]}" } else { b"}" });
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        out.push(b']');
    }
}
