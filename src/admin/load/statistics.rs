//! What the calls of a file are like, and what is implausible about them. Pure.

use crate::admin::load::resolve::{Folder, Place};
use crate::admin::name::shown;
use chrono::{NaiveDate, NaiveDateTime};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use unicode_normalization::UnicodeNormalization;

/// Of more distinct agents than these, half are counted, then a quarter, and so on.
const MAX_AGENTS: usize = 100_000;
/// With fewer calls than these, the number of agents means nothing.
const FEW: u64 = 20;

/// Calls and their time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    pub calls: u64,
    pub milliseconds: u64,
}

impl Total {
    pub fn of_one(milliseconds: i32) -> Self {
        Self { calls: 1, milliseconds: u64::try_from(milliseconds).unwrap_or_default() }
    }

    /// Seconds, to the millisecond.
    pub fn average(self) -> f64 {
        if self.calls == 0 { 0.0 } else { (self.milliseconds as f64 / self.calls as f64).round() / 1000.0 }
    }
}

#[derive(Debug, Default)]
pub struct Statistics {
    pub total: Total,
    /// By the number of the folder.
    pub folders: HashMap<usize, Total>,
    pub days: BTreeSet<NaiveDate>,
    agents: HashSet<u64>,
    /// Only agents whose hash ends with so many zeros are counted.
    agent_zeros: u32,
    pub with_agent: u64,
    /// Calls that start later than now.
    pub future: u64,
    /// Calls that were not on the day on which the file was written, or the day before.
    pub outside: u64,
    hasher: RandomState,
}

impl Statistics {
    /// Adds calls of one folder and agent that start at about the same time.
    pub fn add(&mut self, folder: usize, place: &Place, agent: Option<&str>, started_at: NaiveDateTime, calls: Total) {
        for total in [&mut self.total, self.folders.entry(folder).or_default()] {
            total.calls += calls.calls;
            total.milliseconds += calls.milliseconds;
        }
        self.days.insert(started_at.date());
        if let Some(agent) = agent {
            self.with_agent += calls.calls;
            let hash = self.hasher.hash_one(agent);
            if hash.trailing_zeros() >= self.agent_zeros {
                self.agents.insert(hash);
            }
            while self.agents.len() > MAX_AGENTS {
                self.agent_zeros += 1;
                let zeros = self.agent_zeros;
                self.agents.retain(|hash| hash.trailing_zeros() >= zeros);
            }
        }
        if started_at > place.now {
            self.future += calls.calls;
        }
        let is_near = |written: NaiveDateTime| (0..=1).contains(&(written.date() - started_at.date()).num_days());
        if place.written.is_some_and(|written| !is_near(written)) {
            self.outside += calls.calls;
        }
    }

    /// A sentence for each thing that is implausible.
    pub fn warnings(&self, folders: &[Folder], places: &[Option<Place>], known: &[(i32, String)]) -> Vec<String> {
        let mut warnings = Vec::new();
        let calls = self.total.calls;
        if calls == 0 {
            return warnings;
        }
        let is_odd = |total: &Total| !(1.0..=4.0 * 3600.0).contains(&total.average());
        let advice = "is the unit of the duration right (--unit)?";
        if is_odd(&self.total) {
            warnings.push(format!("the average of all calls is {} seconds: {advice}", self.total.average()));
        } else {
            let mut odd: Vec<(&str, f64)> = self
                .folders
                .iter()
                .filter(|(_, total)| is_odd(total))
                .map(|(at, total)| (folders.get(*at).map_or("", |folder| folder.name.as_str()), total.average()))
                .collect();
            odd.sort_by(|one, other| one.0.cmp(other.0));
            if let Some((name, average)) = odd.first() {
                let more = if odd.len() > 1 {
                    format!(", and {} other folders are like that", odd.len() - 1)
                } else {
                    String::new()
                };
                warnings.push(format!("the average of folder {} is {average} seconds{more}: {advice}", shown(name)));
            }
        }
        let agents = ((self.agents.len() as u64) << self.agent_zeros).min(self.with_agent);
        if self.with_agent >= FEW && agents * 20 > self.with_agent * 19 {
            let as_many = if agents == self.with_agent { "as many" } else { "almost as many" };
            warnings.push(format!(
                "there are {as_many} agents as calls with an agent, {}: is the agent's column one that is new for each \
                 call?",
                thousands(self.with_agent)
            ));
        }
        if self.future > 0 {
            warnings.push(format!(
                "{} of {} calls start in the future: are the date's pattern and the time zone right?",
                thousands(self.future),
                thousands(calls)
            ));
        }
        if self.outside * 2 > calls {
            warnings.push(format!(
                "{} of {} calls were not on the day when the file was written, or the day before: is it the right \
                 file?",
                thousands(self.outside),
                thousands(calls)
            ));
        }
        warnings.extend(similar(folders, places, known));
        warnings
    }
}

/// New folders whose names look like those of others.
fn similar(folders: &[Folder], places: &[Option<Place>], known: &[(i32, String)]) -> Vec<String> {
    let look = |organization: i32, name: &str| {
        let folded: String = name.nfkc().flat_map(char::to_lowercase).collect();
        (organization, folded.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let mut seen: HashMap<(i32, String), &str> =
        known.iter().map(|(organization, name)| (look(*organization, name), name.as_str())).collect();
    let mut warnings = Vec::new();
    for folder in folders.iter().filter(|folder| folder.is_new) {
        let Some(Some(place)) = places.get(folder.place) else { continue };
        let key = look(place.organization_id, &folder.name);
        match seen.get(&key) {
            Some(other) if *other != folder.name => warnings.push(format!(
                "the new folder {} looks like {}, and is another: case, blanks or Unicode form differ",
                shown(&folder.name),
                shown(other)
            )),
            Some(_) => {}
            None => {
                seen.insert(key, &folder.name);
            }
        }
    }
    warnings
}

/// With commas between thousands.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> NaiveDateTime {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap()
    }

    fn place() -> Place {
        Place {
            organization_id: 1,
            company: "acme".into(),
            organization: "support".into(),
            zone: "UTC".into(),
            now: at("2026-03-04 12:00"),
            written: Some(at("2026-03-04 06:00")),
        }
    }

    fn folder(name: &str, is_new: bool) -> Folder {
        Folder { place: 0, name: name.into(), id: Some(1), is_new }
    }

    fn warnings(calls: &[(&str, i32)], agents: bool, folders: &[Folder], known: &[(i32, String)]) -> String {
        let mut statistics = Statistics::default();
        for (number, (start, duration)) in calls.iter().enumerate() {
            let agent = if agents { number.to_string() } else { "anna".into() };
            statistics.add(0, &place(), Some(&agent), at(start), Total::of_one(*duration));
        }
        statistics.warnings(folders, &[Some(place())], known).join("\n")
    }

    #[test]
    fn plausible_calls_give_no_warning() {
        let calls = [("2026-03-03 10:00", 120_000), ("2026-03-04 05:00", 60_000)];
        assert_eq!(warnings(&calls, false, &[folder("Sales", true)], &[(1, "Service".into())]), "");
    }

    #[test]
    fn implausible_calls_give_warnings() {
        let new = [folder("Sales", true)];
        assert!(warnings(&[("2026-03-03 10:00", 12)], false, &new, &[]).contains("average of all calls is 0.012"));
        assert!(warnings(&[("2026-03-03 10:00", 20_000_000)], false, &new, &[]).contains("20000 seconds"));
        assert!(warnings(&[("2026-03-05 10:00", 9000)], false, &new, &[]).contains("1 of 1 calls start in the future"));
        assert!(warnings(&[("2025-03-03 10:00", 9000)], false, &new, &[]).contains("the day before"));
        let many = [("2026-03-03 10:00", 9000); 30];
        assert!(warnings(&many, true, &new, &[]).contains("as many agents as calls"));
        assert_eq!(warnings(&many, false, &new, &[]), "");
        for (agents, calls, is_odd) in [(999, 1000, true), (900, 1000, false), (300_000, 300_000, true)] {
            let mut statistics = Statistics::default();
            for call in 0..calls {
                let agent = (call % agents).to_string();
                statistics.add(0, &place(), Some(&agent), at("2026-03-03 10:00"), Total::of_one(9000));
            }
            let text = statistics.warnings(&new, &[Some(place())], &[]).join("\n");
            assert_eq!(text.contains("as many agents as calls"), is_odd, "{agents} {text}");
        }
        for known in ["sales", "Sales\u{a0}", "SALES", " sales"] {
            let text = warnings(&many, false, &new, &[(1, known.into())]);
            assert!(text.contains("looks like"), "{known:?} {text}");
        }
        assert_eq!(warnings(&many, false, &new, &[(2, "sales".into())]), "");
        let decomposed = [folder("Bu\u{308}ro", true), folder("B\u{fc}ro", true)];
        assert!(warnings(&many, false, &decomposed, &[]).contains("Unicode form"));
    }

    #[test]
    fn numbers_have_commas() {
        assert_eq!([0, 999, 1000, 4988, 1_000_000].map(thousands).join(" "), "0 999 1,000 4,988 1,000,000");
    }
}
