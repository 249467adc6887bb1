//! The flow of `callstats load`: one file after another, each in a transaction of its own. Touches the files, the
//! database, the terminal and signals.

use crate::admin::error::Error;
use crate::admin::interrupt::{self, Step};
use crate::admin::load::batch::{Ending, Message, Opening};
use crate::admin::load::input::Input;
use crate::admin::load::loaded::{self, Content, Known, Note, Policy, Run};
use crate::admin::load::mapping::Mapping;
use crate::admin::load::problem::Problems;
use crate::admin::load::progress::Progress;
use crate::admin::load::reading;
use crate::admin::load::resolve::Resolver;
use crate::admin::load::spec::{Setting, Spec, preset_text};
use crate::admin::load::statistics::thousands;
use crate::admin::load::store::{Existing, Store};
use crate::admin::load::summary::Summary;
use crate::admin::load::value::Template;
use crate::admin::{Output, connect, output};
use crate::cli::{ExistingCalls, KnownFiles, LoadArguments};
use postgres::{Client, Transaction};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;
use toml::{Table, Value};

/// Batches that wait to be written.
const AHEAD: usize = 2;

/// Runs the command.
pub fn run(arguments: &LoadArguments, database: Option<&str>, out: &mut Output<'_>) -> Result<(), Error> {
    if let Some(preset) = &arguments.print_preset {
        let text = preset_text(preset).map_err(|error| Error::of_usage(error.message, error.hint))?;
        return output::text(out.stdout, text);
    }
    let (mapping, given) = mapping(arguments)?;
    let mut client = connect::connect(database)?;
    let work = interrupt::Progress::watch(interrupt::Texts {
        working: "interrupted; nothing of the file was loaded",
        committing: "interrupted while it was committed: load it again, no call counts twice",
    });
    let mut results = Vec::new();
    let mut failed: Option<Error> = None;
    for path in &arguments.files {
        let name = Input::name_of(path);
        let outcome = load(&mut client, arguments, (&mapping, &given), path, &work);
        match outcome {
            Ok(summary) => {
                for note in summary.notes() {
                    out.note(&format!("callstats: {note}"));
                }
                if !arguments.json {
                    output::text(out.stdout, &summary.line())?;
                    if arguments.check && !summary.folders.is_empty() {
                        let header = ["COMPANY", "ORGANIZATION", "FOLDER", "", "CALLS", "AVERAGE (S)"];
                        output::table(out.stdout, &header, &summary.rows())?;
                    }
                }
                results.push(Outcome::Done(Box::new(summary)));
            }
            Err(mut error) => {
                let nothing = if arguments.check { "" } else { "; nothing of it was loaded" };
                let is_named = error.message.starts_with(&name) || error.message.contains(&format!(" {name}: "));
                if !is_named {
                    error.message = format!("{name}: {}", error.message);
                }
                error.message.push_str(nothing);
                results.push(Outcome::Failed { file: name, error: error.message.clone(), hint: error.hint.clone() });
                // All but the last error are reported here, and the last one by the caller.
                if let Some(earlier) = failed.replace(error) {
                    out.note(&format!("callstats: {earlier}"));
                }
                if client.is_closed() {
                    break;
                }
            }
        }
    }
    if arguments.json {
        output::json(out.stdout, &Files { files: results })?;
    }
    failed.map_or(Ok(()), Err)
}

#[derive(Serialize)]
struct Files {
    files: Vec<Outcome>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Done(Box<Summary>),
    Failed { file: String, error: String, hint: String },
}

/// Loads one file in one transaction.
fn load(
    client: &mut Client,
    arguments: &LoadArguments,
    mapping: (&Mapping, &Table),
    path: &Path,
    work: &interrupt::Progress,
) -> Result<Summary, Error> {
    let input = Input::open(path)?;
    let name = Input::name_of(path);
    let progress = Progress::new(&name, input.length());
    work.set(Step::Working);
    let loaded = load_in_transaction(client, arguments, mapping, input, name, &progress, work);
    work.set(Step::Nothing);
    loaded
}

fn load_in_transaction(
    client: &mut Client,
    arguments: &LoadArguments,
    (mapping, given): (&Mapping, &Table),
    input: Input,
    name: String,
    progress: &Progress,
    work: &interrupt::Progress,
) -> Result<Summary, Error> {
    let mut transaction = begin(client, arguments.check)?;
    let run = Run::new(&mut transaction, &input, mapping, given.clone())?;
    let policy = match arguments.if_loaded {
        _ if arguments.again => Policy::Again,
        Some(KnownFiles::Skip) => Policy::Skip,
        Some(KnownFiles::Refuse) | None => Policy::SameMapping,
    };
    let mut known = Known::find(&mut transaction, &input, mapping, &run, policy)?;
    if let Some(at) = known.all_at.as_ref().filter(|_| arguments.if_loaded == Some(KnownFiles::Refuse)) {
        return Err(Error::new(
            format!("{name} was loaded before, at {at}"),
            "--if-loaded skip passes over such files",
        ));
    }
    let modified = input.modified;
    let (sender, messages) = sync_channel(AHEAD);
    let before = reading::Before { complete: known.complete, refusal: known.refusal.take() };
    let (own_mapping, counter) = (mapping.clone(), progress.counter());
    // Not joined: on an interrupt it may be waiting for a pipe.
    std::thread::spawn(move || reading::read(&input, own_mapping, before, counter, sender));
    let opening = match next(&messages, progress)? {
        Message::Opening(opening) => opening,
        Message::Failed(error) => return Err(error),
        Message::Batch(_) | Message::Ending(_) => return Err(lost()),
    };
    refuse_other_ids(&known, &opening)?;
    let resolver = Resolver::new(modified);
    let mut store = Store::new(&mut transaction, resolver, &opening, known.unfinished, arguments.check)?;
    let mut ending = take_all(&mut store, &messages, progress)?;
    ending.problems.append(std::mem::take(&mut store.problems));
    if ending.problems.is_empty() {
        let existing = match arguments.existing {
            ExistingCalls::Replace => Existing::Replace,
            ExistingCalls::Leave => Existing::Leave,
        };
        store.finish(existing, |step| progress.step(step))?;
        ending.problems.append(std::mem::take(&mut store.problems));
    }
    fail_with(&ending.problems, &name)?;
    let known_folders = known_folders(&mut store)?;
    let has_ids = opening.has_call;
    let summary = summary(arguments, &store, &ending, opening.ignored, &known, &known_folders, name.clone());
    let (unfinished, content) = (store.unfinished, content(&store));
    if arguments.check {
        return Ok(summary); // and nothing is committed
    }
    if known.all_at.is_none() {
        let calls = summary.calls;
        let note = Note { name: &name, calls, read: &ending.fingerprint, unfinished, has_ids, content };
        loaded::note(&mut transaction, &run, &known, note)?;
    }
    progress.step("committing");
    work.set(Step::Committing);
    transaction.commit().map_err(|error| {
        let mut error = Error::from(error);
        if error.hint.is_empty() || error.hint.starts_with("check that") {
            error.hint = "whether it was loaded is not known; load it again: no call counts twice".into();
        }
        error
    })?;
    Ok(summary)
}

/// A transaction in which loads of files come one after another.
fn begin(client: &mut Client, is_check: bool) -> Result<Transaction<'_>, Error> {
    let mut transaction = crate::admin::transaction(client)?;
    transaction.batch_execute(crate::admin::LONG)?;
    if !is_check {
        // Two loads of one file at the same time: the second waits, and then knows it.
        transaction.batch_execute("lock table callstats.loaded_file in share row exclusive mode")?;
    }
    Ok(transaction)
}

/// The same calls would count twice, once with ids and once without.
fn refuse_other_ids(known: &Known, opening: &Opening) -> Result<(), Error> {
    match (known.had_ids, opening.has_call) {
        (Some(false), true) => Err(Error::new(
            "calls of it were loaded before, without ids: with ids they would count twice",
            "delete these calls and load it with --again, or load it without `call`",
        )),
        (Some(true), false) => Err(Error::new(
            "calls of it were loaded before, with ids: without ids they would count twice",
            "map `call` to the column that has the ids, or delete these calls and load it with --again",
        )),
        _ => Ok(()),
    }
}

fn lost() -> Error {
    Error::new("the file could not be read to its end", "this is an error of callstats: please report it")
}

/// The next message of the reader.
fn next(messages: &Receiver<Message>, progress: &Progress) -> Result<Message, Error> {
    loop {
        progress.update();
        match messages.recv_timeout(Duration::from_millis(200)) {
            Ok(message) => return Ok(message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(lost()),
        }
    }
}

fn take_all(store: &mut Store<'_, '_>, messages: &Receiver<Message>, progress: &Progress) -> Result<Ending, Error> {
    loop {
        match next(messages, progress)? {
            Message::Batch(batch) => store.take(batch)?,
            Message::Ending(ending) => return Ok(ending),
            Message::Failed(error) => return Err(error),
            Message::Opening(_) => return Err(lost()),
        }
    }
}

fn fail_with(problems: &Problems, name: &str) -> Result<(), Error> {
    if problems.is_empty() {
        return Ok(());
    }
    let (message, hint) = problems.message(name);
    Err(Error::new(message, hint))
}

/// The names of all folders, if there are new ones to compare with them.
fn known_folders(store: &mut Store<'_, '_>) -> Result<Vec<(i32, String)>, Error> {
    if !store.resolver.folders.iter().any(|folder| folder.is_new) {
        return Ok(Vec::new());
    }
    let new: Vec<&str> = store.resolver.folders.iter().filter(|f| f.is_new).map(|f| f.name.as_str()).collect();
    let organizations: Vec<i32> = store.resolver.places.iter().flatten().map(|place| place.organization_id).collect();
    let rows = store.transaction.query(
        "select organization_id, name from callstats.folder where organization_id = any($1) and name <> all($2)",
        &[&organizations, &new],
    )?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

fn summary(
    arguments: &LoadArguments,
    store: &Store<'_, '_>,
    ending: &Ending,
    ignored_columns: Vec<String>,
    known: &Known,
    known_folders: &[(i32, String)],
    file: String,
) -> Summary {
    let (statistics, resolver, counts) = (&store.statistics, &store.resolver, store.counts);
    let day = |day: Option<&chrono::NaiveDate>| day.map(ToString::to_string);
    let mut warnings = ending.absent.clone();
    warnings.extend(statistics.warnings(&resolver.folders, &resolver.places, known_folders));
    warnings.extend(about_records(ending, counts.new + counts.changed + counts.unchanged + ending.known));
    if known.are_calls_gone && ending.known > 0 {
        warnings.push(
            "none of its calls that were loaded before is there any more: --again loads all of it once more".into(),
        );
    }
    Summary {
        file,
        is_check: arguments.check,
        records: ending.records,
        filtered: ending.filtered,
        calls: counts.new + counts.changed + counts.unchanged + ending.known,
        new: counts.new,
        unchanged: counts.unchanged,
        changed: counts.changed,
        changed_were_left: arguments.existing == ExistingCalls::Leave,
        days: statistics.days.len(),
        first_day: day(statistics.days.first()),
        last_day: day(statistics.days.last()),
        avg_duration_seconds: statistics.total.average(),
        folders: Summary::folders(statistics, &resolver.folders, &resolver.places),
        ignored_columns,
        warnings,
        passed_over: ending.known,
        loaded_before: known.all_at.clone(),
        left_line: ending.left,
    }
}

/// What is implausible about records that gave no call.
fn about_records(ending: &Ending, calls: u64) -> Vec<String> {
    let mut warnings = Vec::new();
    if ending.fingerprint.bytes == 0 && ending.left.is_none() {
        warnings.push("it is empty".to_owned());
    } else if ending.records == 0 && !ending.has_header {
        warnings.push("there is no record in it: check the file and the mapping".to_owned());
    } else if calls == 0 && ending.filtered > 0 {
        let filtered = thousands(ending.filtered);
        warnings.push(format!("the filter leaves all records out, {filtered} of them: check the file and the mapping"));
    }
    if let Some((first, records)) = &ending.no_number {
        let records = thousands(*records);
        warnings.push(format!(
            "a condition compares with a number what is none, in {records} records, and does not hold there; {first}"
        ));
    }
    warnings
}

/// What the calls are that were written or compared.
fn content(store: &Store<'_, '_>) -> Content {
    let (statistics, resolver) = (&store.statistics, &store.resolver);
    let used: Vec<_> = statistics.folders.keys().filter_map(|at| resolver.folders.get(*at)).collect();
    let of_places = |folder: &&crate::admin::load::resolve::Folder| {
        resolver.places.get(folder.place)?.as_ref().map(|place| place.organization_id)
    };
    let organizations: BTreeSet<i32> = used.iter().filter_map(of_places).collect();
    Content {
        organizations: Some(organizations.into_iter().collect()),
        folders: used.iter().map(|folder| folder.id).collect(),
        days: statistics.days.first().copied().zip(statistics.days.last().copied()),
    }
}

/// The mapping of the arguments, and as it was given.
fn mapping(arguments: &LoadArguments) -> Result<(Mapping, Table), Error> {
    let file = match &arguments.map {
        None => None,
        Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
            Error::new(format!("cannot read {}: {error}", Input::name_of(path)), "check the name and who may read it")
        })?),
    };
    let (preset, settings) = (arguments.preset.as_deref(), settings(arguments)?);
    if let Some(Err(error)) = preset.map(preset_text) {
        return Err(Error::of_usage(error.message, error.hint));
    }
    let build = |settings: &[Setting]| {
        let (spec, has_call) = Spec::read(preset, file.as_deref(), settings)?;
        Mapping::new(&spec, has_call)
    };
    match build(&settings) {
        Ok(mapping) => Ok((mapping, Spec::given(preset, file.as_deref(), &settings)?)),
        // The option with which it begins is the one that is wrong; without options, it is the file.
        Err(error) => Err((0..settings.len())
            .find_map(|at| Some(of_option(&settings[at], build(&settings[..=at]).err()?)))
            .filter(|_| build(&[]).is_ok())
            .unwrap_or_else(|| in_file(error, arguments.map.as_deref()))),
    }
}

/// A mistake in a mapping's file, with its name before its line.
fn in_file(mut error: Error, path: Option<&Path>) -> Error {
    if let Some(path) = path.filter(|_| error.message.starts_with("line ")) {
        error.message = format!("{} {}", Input::name_of(path), error.message);
    }
    error
}

/// A mistake in the value of an option.
fn of_option(setting: &Setting, error: Error) -> Error {
    let option = match (setting.key, setting.part) {
        (_, Some("column")) => "column",
        ("start", Some("pattern")) => "start-pattern",
        ("start", Some("unit")) => "start-unit",
        ("start", Some("zone")) => "time-zone",
        (_, Some(part)) => part,
        ("header", None) => "no-header",
        (key, None) => key,
    };
    let reason = error.message.strip_prefix(&format!("the mapping's {} ", setting.key)).map(str::to_owned);
    let reason = reason.unwrap_or_else(|| format!("is wrong: {}", error.message));
    Error::of_usage(format!("--{option} {reason}"), "callstats load --help lists the options")
}

fn settings(arguments: &LoadArguments) -> Result<Vec<Setting>, Error> {
    const FIELDS: [&str; 7] = ["call", "company", "organization", "folder", "agent", "start", "duration"];
    let mut settings = Vec::new();
    for text in &arguments.column {
        let (field, column) = text.split_once('=').unwrap_or((text, ""));
        let Some(key) = FIELDS.iter().find(|known| **known == field.trim()) else {
            return Err(Error::of_usage(
                format!("--column {text:?} does not begin with a field"),
                format!("write FIELD=COLUMN with one of {}", FIELDS.join(", ")),
            ));
        };
        settings.push(Setting { key, part: Some("column"), value: Value::String(column.to_owned()) });
    }
    let constants =
        [("company", &arguments.company), ("organization", &arguments.organization), ("folder", &arguments.folder)];
    for (key, name) in constants {
        if let Some(name) = name {
            let table = toml::Table::from_iter([("value".to_owned(), Value::String(Template::escape(name)))]);
            settings.push(Setting { key, part: None, value: Value::Table(table) });
        }
    }
    let texts = [
        ("start", Some("pattern"), &arguments.start_pattern),
        ("start", Some("unit"), &arguments.start_unit),
        ("start", Some("zone"), &arguments.time_zone),
        ("duration", Some("unit"), &arguments.unit),
        ("delimiter", None, &arguments.delimiter),
        ("quote", None, &arguments.quote),
        ("escape", None, &arguments.escape),
        ("encoding", None, &arguments.encoding),
        ("decimal", None, &arguments.decimal),
        ("format", None, &arguments.format),
        ("records", None, &arguments.records),
    ];
    for (key, part, text) in texts {
        if let Some(text) = text {
            settings.push(Setting { key, part, value: Value::String(text.clone()) });
        }
    }
    if arguments.no_header {
        settings.push(Setting { key: "header", part: None, value: Value::Boolean(false) });
    }
    let list = |texts: &[String]| Value::Array(texts.iter().cloned().map(Value::String).collect());
    if !arguments.columns.is_empty() {
        settings.push(Setting { key: "columns", part: None, value: list(&arguments.columns) });
    }
    if !arguments.filter.is_empty() {
        settings.push(Setting { key: "filter", part: None, value: list(&arguments.filter) });
    }
    Ok(settings)
}
