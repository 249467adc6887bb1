//! A mapping: which table, and an SQL expression for each thing that a call has. Read from a preset, a TOML file and
//! options, later ones first. Pure.

use crate::admin::error::Error;
use crate::cli::MAPPING_KEYS as KEYS;
use crate::config::nearest;
use std::collections::BTreeMap;
use std::fmt::Write;

const PRESETS: [(&str, &str); 5] = [
    ("asterisk", include_str!("presets/asterisk.toml")),
    ("asterisk-start", include_str!("presets/asterisk-start.toml")),
    ("flat", include_str!("presets/flat.toml")),
    ("freeswitch", include_str!("presets/freeswitch.toml")),
    ("fusionpbx", include_str!("presets/fusionpbx.toml")),
];

/// A mapping whose keys are known and complete. What the types of its expressions allow is decided elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping(BTreeMap<String, String>);

impl Mapping {
    /// Merges a file and options, which win, over the preset that either names.
    pub fn read(file: Option<&str>, options: &[(String, String)]) -> Result<Self, Error> {
        let mut given = file.map(pairs).transpose()?.unwrap_or_default();
        for (key, value) in options {
            known(key)?;
            given.insert(key.clone(), value.clone());
        }
        let mut merged = BTreeMap::new();
        if let Some(preset) = given.remove("preset") {
            let Some((_, text)) = PRESETS.iter().find(|(name, _)| *name == preset) else {
                let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
                return Err(Error::new(
                    format!("there is no preset {preset:?}"),
                    format!("use one of {}", names.join(", ")),
                ));
            };
            merged = pairs(text)?;
            merged.insert("name".into(), preset);
        }
        merged.extend(given);
        merged.retain(|_, value| !value.trim().is_empty());
        let trunks = merged.remove("trunks").unwrap_or_else(|| "^$".into());
        if let Some(agent) = merged.get_mut("agent") {
            *agent = with_peers(agent, &trunks);
        }
        merged.entry("name".into()).or_insert_with(|| "calls".into());
        Self(merged).complete()
    }

    fn complete(self) -> Result<Self, Error> {
        let missing: Vec<&str> = ["relation", "company", "organization", "folder", "start", "duration"]
            .into_iter()
            .filter(|key| self.get(key).is_none())
            .collect();
        if !missing.is_empty() {
            return Err(Error::new(
                format!("the mapping has no {}", missing.join(", no ")),
                "give each as an option or in the file; a constant is an SQL literal, such as --company \"'acme'\"",
            ));
        }
        let name = self.name();
        let is_simple = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        if name.is_empty() || name.len() > 63 || !name.bytes().all(is_simple) {
            return Err(Error::new(
                format!("{name:?} is not a name for a mapping"),
                "use up to 63 of a-z, 0-9, _ and -",
            ));
        }
        for (key, allowed) in [("start_unit", &["s", "ms"][..]), ("unit", &["s", "ms", "days", "hms"])] {
            if self.get(key).is_some_and(|value| !allowed.contains(&value)) {
                return Err(Error::new(
                    format!("{key} cannot be {:?}", self.get(key).unwrap_or_default()),
                    format!("use one of {}", allowed.join(", ")),
                ));
            }
        }
        if self.get("horizon").is_some() && self.horizon_days().is_none() {
            return Err(Error::new(
                format!("horizon cannot be {:?}", self.expression("horizon")),
                "give a number of days from 1 to 3650, such as '7 days'",
            ));
        }
        if self.get("changed").is_some() && self.get("horizon").is_none() {
            return Err(Error::new("changed has no use without a horizon", "give --horizon, such as '7 days'"));
        }
        Ok(self)
    }

    /// The value of a key that need not be there.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The value of a key; `null` if it is not there.
    pub fn expression(&self, key: &str) -> &str {
        self.get(key).unwrap_or("null")
    }

    pub fn name(&self) -> &str {
        self.expression("name")
    }

    /// How many days before today are read row by row; none: all are.
    pub fn horizon_days(&self) -> Option<u64> {
        let (number, unit) = self.get("horizon")?.trim().split_once(' ')?;
        let days = number.parse().ok().filter(|days| (1..=3650).contains(days))?;
        matches!(unit, "day" | "days").then_some(days)
    }

    pub fn set(&mut self, key: &str, value: String) {
        self.0.insert(key.into(), value);
    }

    /// As text that [`Mapping::read`] takes.
    pub fn to_toml(&self) -> String {
        let table: toml::Table = self.0.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        let mut text = String::new();
        for (key, value) in &table {
            let _ = writeln!(text, "{key} = {value}"); // writing to a string cannot fail
        }
        text
    }
}

fn pairs(text: &str) -> Result<BTreeMap<String, String>, Error> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        Error::new(format!("the mapping is not TOML: {}", error.message()), "write one `key = \"value\"` on each line")
    })?;
    let mut pairs = BTreeMap::new();
    for (key, value) in table {
        known(&key)?;
        let toml::Value::String(value) = value else {
            return Err(Error::new(format!("the value of {key} is not a string"), "put it in double quotes"));
        };
        pairs.insert(key, value);
    }
    Ok(pairs)
}

fn known(key: &str) -> Result<(), Error> {
    if KEYS.iter().any(|(name, _)| *name == key) {
        return Ok(());
    }
    let nearest = nearest(key, KEYS.iter().map(|(name, _)| *name));
    Err(Error::new(format!("{key:?} is not a key of a mapping"), format!("did you mean {nearest}?")))
}

/// In the presets of Asterisk, DIALLER and ANSWERER are the peers of the two channels: the part between the
/// technology and the number that makes a channel unique. Local channels are none.
fn with_peers(agent: &str, trunks: &str) -> String {
    let peer = |column: &str| {
        format!(
            "case when {column} not like 'Local/%' then \
             substring({column} from '^[^/]+/(.+?)(-[0-9A-Fa-f]+)?(;[12])?$') end"
        )
    };
    agent
        .replace("DIALLER", &format!("({})", peer("channel")))
        .replace("ANSWERER", &format!("({})", peer("dstchannel")))
        .replace("TRUNK", &format!("'{}'", trunks.replace('\'', "''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_win_over_the_file_and_the_file_over_the_preset() {
        let file = "preset = \"flat\"\nrelation = \"a.b\"\nfolder = \"queue\"";
        let mapping = Mapping::read(Some(file), &options(&[("folder", "team")])).unwrap();
        assert_eq!(mapping.get("relation"), Some("a.b"));
        assert_eq!(mapping.get("folder"), Some("team"));
        assert_eq!(mapping.get("start"), Some("started"));
        assert_eq!(Mapping::read(Some(&mapping.to_toml()), &[]).unwrap(), mapping);
    }

    #[test]
    fn every_preset_is_complete_and_survives_being_stored() {
        for (name, _) in PRESETS {
            let mapping = Mapping::read(None, &options(&[("preset", name)])).unwrap();
            assert_eq!(Mapping::read(Some(&mapping.to_toml()), &[]).unwrap(), mapping, "{name}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let error = Mapping::read(Some("organisation = \"x\""), &[]).unwrap_err();
        assert_eq!(error.hint, "did you mean organization?");
        let error = Mapping::read(None, &options(&[("relation", "a"), ("company", "'x'")])).unwrap_err();
        assert!(error.message.contains("no organization, no folder, no start, no duration"), "{error:?}");
        for wrong in [[("preset", "flat"), ("unit", "h")], [("preset", "flat"), ("name", "A b")]] {
            assert!(Mapping::read(None, &options(&wrong)).is_err(), "{wrong:?}");
        }
    }
}
