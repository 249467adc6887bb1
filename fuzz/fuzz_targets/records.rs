//! Files of records, in any format and encoding and by any mapping, to rows. An input is the number of a mapping, that
//! of a format and that of an encoding, and then the file; without a mapping of ours, one of its own up to a zero byte
//! comes first.

#![no_main]

use callstats::admin::fuzzing::{Format, Reader};
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

const FORMATS: [Option<Format>; 4] = [None, Some(Format::Csv), Some(Format::Json), Some(Format::Xml)];
const ENCODINGS: [Option<&str>; 6] =
    [None, Some("windows-1252"), Some("utf-16le"), Some("utf-16be"), Some("shift_jis"), Some("gb18030")];
const TENANT: &str = "company = { value = 'acme' }\norganization = { value = 'support' }\n";
const MAPS: [&str; 20] = [
    "",
    TENANT,
    "preset = '3cx'\n",
    "preset = 'asterisk'\n",
    "preset = 'asterisk-custom'\n",
    "preset = 'asterisk-export'\n",
    "preset = 'avaya-ipo'\n",
    "preset = 'excel'\n",
    "preset = 'freeswitch'\n",
    "preset = 'vspark-metadata'\n",
    "preset = 'vspark-transcript'\n",
    include_str!("../../tests/records/amazon-connect/map.toml"),
    include_str!("../../tests/records/bank-1999/map.toml"),
    include_str!("../../tests/records/call-centre/map.toml"),
    include_str!("../../tests/records/cucm/map.toml"),
    include_str!("../../tests/records/fritzbox/map.toml"),
    include_str!("../../tests/records/genesys/map.toml"),
    include_str!("../../tests/records/json-lines/map.toml"),
    include_str!("../../tests/records/twilio/map.toml"),
    include_str!("../../tests/records/call-centre-excel/map.toml"),
];
/// A compressed file can be a thousand times as long.
const MAX_COMPRESSED: usize = 512;

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| PathBuf::from(format!("/dev/shm/callstats-fuzz-{}", std::process::id())));

/// A preset has no tenant of its own.
static READERS: LazyLock<Vec<Reader>> = LazyLock::new(|| {
    let whole = |map: &&str| if map.starts_with("preset") { format!("{TENANT}{map}") } else { (*map).to_owned() };
    MAPS.iter().map(|map| Reader::new(&whole(map)).unwrap()).collect()
});

fuzz_target!(|data: &[u8]| {
    let [map, format, encoding, rest @ ..] = data else { return };
    let own: Option<Reader>;
    let (reader, mut file) = match READERS.get(usize::from(*map)) {
        Some(reader) => (reader, rest),
        None => {
            let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            let Ok(map) = std::str::from_utf8(&rest[..end]) else { return };
            own = Reader::new(map);
            let Some(reader) = &own else { return };
            (reader, rest.get(end + 1..).unwrap_or_default())
        }
    };
    if file.starts_with(&[0x1f, 0x8b]) {
        file = &file[..file.len().min(MAX_COMPRESSED)];
    }
    std::fs::write(&*FILE, file).unwrap();
    let format = FORMATS[usize::from(*format) % FORMATS.len()];
    let encoding = ENCODINGS[usize::from(*encoding) % ENCODINGS.len()];
    let Some(read) = reader.read(&FILE, format, encoding) else { return };
    assert!(read.rows <= read.records);
    for name in &read.names {
        assert!((1..=1000).contains(&name.len()) && !name.contains(char::is_control), "{name:?}");
    }
    for id in &read.ids {
        assert!((1..=1000).contains(&id.len()) && !id.contains('\0'), "{id:?}");
    }
});
