//! Daily totals to the totals of weeks, months or a whole range. Pure.
//!
//! Totals arrive in the order of folder and agent within each day only, so the sums of an interval are kept in a hash
//! table until it is over: some 150 bytes for each folder and agent with calls, however many days there are. Agent ids
//! lie in scratch storage, because there may be 100,000 of 1,000 bytes each.

use super::sum::{Sum, Total};
use crate::api::interval::Interval;
use crate::scratch::Scratch;
use crate::store::DailyTotal;
use chrono::NaiveDate;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;

/// The sums of one interval.
pub struct IntervalSums {
    interval: Interval,
    /// The first day of the range.
    first: NaiveDate,
    /// The first day of the interval whose totals arrive.
    start: Option<NaiveDate>,
    key: RandomState,
    /// Where a group is, by the fingerprint of its folder and agent.
    places: HashMap<Fingerprint, usize>,
    groups: Vec<Group>,
    agent_ids: Box<dyn Scratch>,
}

/// 128 bits that stand for a folder and an agent. The key is random, so nobody can choose two with the same ones; by
/// chance, 2^32 groups have two of them with a probability of 2^-65.
type Fingerprint = [u64; 2];

/// The bytes of an agent id that are compared at once.
const CHUNK_BYTES: usize = 16;

/// The bytes that are skipped at once if many agent ids have them in common.
const SKIPPED_BYTES: usize = 4096;

struct Group {
    folder_id: i32,
    /// Where the agent id is in scratch storage.
    offset: u64,
    /// The length of the agent id in bytes; 0: calls without an agent.
    length: u32,
    /// Bytes of the agent id to sort by, with zeros after its end.
    chunk: [u8; CHUNK_BYTES],
    sum: Sum,
}

impl IntervalSums {
    /// No sums yet, for a range that starts with the day `first`; agent ids will be stored in `agent_ids`.
    pub fn new(interval: Interval, first: NaiveDate, agent_ids: Box<dyn Scratch>) -> Self {
        let key = RandomState::new();
        Self { interval, first, start: None, key, places: HashMap::new(), groups: Vec::new(), agent_ids }
    }

    /// Whether the sums belong to another interval than this date does.
    pub fn is_over(&self, date: NaiveDate) -> bool {
        self.start.is_some_and(|start| start != self.interval.start(date, self.first))
    }

    /// Adds a total of the same interval.
    pub fn add(&mut self, total: DailyTotal<'_>) -> io::Result<()> {
        self.start = Some(self.interval.start(total.date, self.first));
        let total = Total::from(total);
        let agent_id = total.agent_id.unwrap_or_default();
        let fingerprint = [0_u8, 1].map(|half| self.key.hash_one((half, total.folder_id, agent_id)));
        if let Some(group) = self.places.get(&fingerprint).and_then(|place| self.groups.get_mut(*place)) {
            group.sum.add(total.sum);
            return Ok(());
        }
        let offset = self.agent_ids.len();
        self.agent_ids.append(agent_id.as_bytes())?;
        let length = u32::try_from(agent_id.len()).map_err(io::Error::other)?;
        self.places.insert(fingerprint, self.groups.len());
        let chunk = first_bytes(agent_id.as_bytes());
        self.groups.push(Group { folder_id: total.folder_id, offset, length, chunk, sum: total.sum });
        Ok(())
    }

    /// Hands over the totals of the interval in the order of folder id, agent id, and starts anew.
    pub fn drain(&mut self, mut each: impl FnMut(Total<'_>) -> io::Result<()>) -> io::Result<()> {
        let Some(date) = self.start.take() else { return Ok(()) };
        // Freed, not cleared: after one large interval, clearing would take time for its size in each small one.
        self.places = HashMap::new();
        let mut groups = std::mem::take(&mut self.groups);
        sort(&mut groups, &mut *self.agent_ids)?;
        let mut bytes = Vec::new();
        for group in groups {
            bytes.resize(usize::try_from(group.length).map_err(io::Error::other)?, 0);
            self.agent_ids.read_exact_at(group.offset, &mut bytes)?;
            let agent_id = Some(std::str::from_utf8(&bytes).map_err(io::Error::other)?);
            each(Total { date, folder_id: group.folder_id, agent_id, sum: group.sum })?;
        }
        self.agent_ids.clear();
        Ok(())
    }
}

/// The first bytes, with zeros after the end.
fn first_bytes(bytes: &[u8]) -> [u8; CHUNK_BYTES] {
    let mut chunk = [0; CHUNK_BYTES];
    let length = bytes.len().min(CHUNK_BYTES);
    chunk[..length].copy_from_slice(&bytes[..length]);
    chunk
}

/// Sorts by folder id and agent id. Those with the same first bytes are sorted again by the bytes that follow, and so
/// on, so that few agent ids are read from storage and an error while reading ends it.
fn sort(groups: &mut [Group], agent_ids: &mut dyn Scratch) -> io::Result<()> {
    let mut alike = vec![(0..groups.len(), 0_u64)];
    while let Some((range, mut sorted_bytes)) = alike.pop() {
        let Some(part) = groups.get_mut(range.clone()) else { continue };
        if sorted_bytes > 0 {
            sorted_bytes += common_bytes(part, sorted_bytes, agent_ids)?;
            for group in &mut *part {
                let chunk = group.read(sorted_bytes, CHUNK_BYTES, agent_ids)?;
                group.chunk = first_bytes(&chunk);
            }
        }
        part.sort_unstable_by_key(|group| (group.folder_id, group.chunk, group.length));
        sorted_bytes += CHUNK_BYTES as u64;
        let mut start = range.start;
        for run in part.chunk_by(|a, b| (a.folder_id, a.chunk) == (b.folder_id, b.chunk)) {
            if run.len() > 1 && run.iter().any(|group| u64::from(group.length) > sorted_bytes) {
                alike.push((start..start + run.len(), sorted_bytes));
            }
            start += run.len();
        }
    }
    Ok(())
}

/// How many bytes from `at` on all agent ids of some groups have in common, up to [`SKIPPED_BYTES`].
fn common_bytes(groups: &[Group], at: u64, agent_ids: &mut dyn Scratch) -> io::Result<u64> {
    let Some((first, others)) = groups.split_first() else { return Ok(0) };
    let mut common = first.read(at, SKIPPED_BYTES, agent_ids)?;
    for group in others {
        let bytes = group.read(at, common.len(), agent_ids)?;
        common.truncate(common.iter().zip(&bytes).take_while(|(a, b)| a == b).count());
    }
    Ok(common.len() as u64)
}

impl Group {
    /// Up to `most` bytes of the agent id, from `at` on.
    fn read(&self, at: u64, most: usize, agent_ids: &mut dyn Scratch) -> io::Result<Vec<u8>> {
        let rest = usize::try_from(u64::from(self.length).saturating_sub(at)).unwrap_or(most);
        let mut bytes = vec![0; rest.min(most)];
        if !bytes.is_empty() {
            agent_ids.read_exact_at(self.offset + at, &mut bytes)?;
        }
        Ok(bytes)
    }
}
