//! Scratch storage with a bound: in memory while it is little, in an unlinked temporary file beyond. Touches the folder
//! of temporary files.

use crate::scratch::{Scratch, ScratchSpace};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one area may hold in memory.
const AREA_MEMORY_BYTES: u64 = 256 * 1024;

/// What all areas of a process may hold in memory together.
const MEMORY_BYTES: u64 = 16 * 1024 * 1024;

/// Where areas are, and how much of it is in use.
#[derive(Debug, Clone)]
pub struct Spool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    memory: Budget,
    files: Budget,
}

impl Spool {
    /// Temporary files lie in `folder` and have up to `max_bytes` together.
    pub fn new(folder: PathBuf, max_bytes: u64) -> Self {
        Self(Arc::new(Shared { folder, memory: Budget::new(MEMORY_BYTES), files: Budget::new(max_bytes) }))
    }
}

impl ScratchSpace for Spool {
    fn create(&self) -> Box<dyn Scratch> {
        Box::new(Area { shared: self.0.clone(), memory: Vec::new(), memory_reserved: 0, file: None, file_len: 0 })
    }
}

/// A number of bytes that can be reserved and released.
#[derive(Debug)]
struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }

    fn reserve(&self, bytes: u64) -> bool {
        let reserved = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserved).is_ok()
    }

    fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The first bytes are in memory, the others in the file.
struct Area {
    shared: Arc<Shared>,
    memory: Vec<u8>,
    /// Bytes of memory that are reserved. They grow in steps, so that small areas stay cheap.
    memory_reserved: u64,
    file: Option<File>,
    file_len: u64,
}

/// The step in which memory is reserved.
const STEP_BYTES: u64 = 16 * 1024;

impl Area {
    fn fits_into_memory(&mut self, bytes: usize) -> bool {
        let wanted = self.memory.len() as u64 + bytes as u64;
        if self.file.is_some() || wanted > AREA_MEMORY_BYTES {
            return false;
        }
        if wanted > self.memory_reserved {
            let step = (wanted - self.memory_reserved).next_multiple_of(STEP_BYTES);
            if !self.shared.memory.reserve(step) {
                return false;
            }
            self.memory_reserved += step;
        }
        true
    }

    fn append_to_file(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        if !self.shared.files.reserve(length) {
            let limit = self.shared.files.limit;
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("all responses that wait for their clients have {limit} bytes (CALLSTATS_SPOOL_MAX_BYTES)"),
            ));
        }
        let written = match &mut self.file {
            Some(file) => file.write_all_at(bytes, self.file_len),
            // Without a name, so that nothing is left of it however the process ends.
            None => tempfile::tempfile_in(&self.shared.folder)
                .and_then(|file| self.file.insert(file).write_all_at(bytes, self.file_len)),
        };
        match &written {
            Ok(()) => self.file_len += length,
            Err(_) => self.shared.files.release(length),
        }
        written
    }

    fn release(&mut self) {
        self.shared.memory.release(self.memory_reserved);
        self.shared.files.release(self.file_len);
        (self.memory_reserved, self.file_len) = (0, 0);
    }
}

impl Scratch for Area {
    fn len(&self) -> u64 {
        self.memory.len() as u64 + self.file_len
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.fits_into_memory(bytes.len()) {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        self.append_to_file(bytes)
    }

    fn read_exact_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let in_memory = usize::try_from(offset).ok().and_then(|offset| self.memory.get(offset..)).unwrap_or_default();
        let (from_memory, from_file) = buffer.split_at_mut(in_memory.len().min(buffer.len()));
        from_memory.copy_from_slice(&in_memory[..from_memory.len()]);
        if from_file.is_empty() {
            return Ok(());
        }
        let offset = (offset + from_memory.len() as u64).saturating_sub(self.memory.len() as u64);
        match &self.file {
            Some(file) => file.read_exact_at(from_file, offset),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn clear(&mut self) {
        self.release();
        self.memory.clear();
        self.file = None;
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(max_bytes: u64) -> Spool {
        Spool::new(std::env::temp_dir(), max_bytes)
    }

    #[test]
    fn bytes_are_read_back_from_memory_and_file() {
        let spool = spool(10_000_000);
        let mut area = spool.create();
        let bytes: Vec<u8> = (0..700_000_u32).map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[2]).collect();
        for piece in bytes.chunks(7_001) {
            area.append(piece).unwrap();
        }
        assert_eq!(area.len(), 700_000);
        for (offset, length) in [(0, 1), (0, 700_000), (262_000, 500), (300_000, 400_000), (700_000, 0)] {
            let mut read = vec![0; length];
            area.read_exact_at(offset as u64, &mut read).unwrap();
            assert_eq!(read, bytes[offset..offset + length], "{offset} {length}");
        }
        assert!(area.read_exact_at(699_999, &mut [0; 2]).is_err());
        assert!(spool.0.files.used.load(Ordering::Relaxed) > 0);
        area.clear();
        assert!(area.is_empty());
        area.append(b"again").unwrap();
        drop(area);
        assert_eq!(spool.0.files.used.load(Ordering::Relaxed), 0);
        assert_eq!(spool.0.memory.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_full_spool_refuses_and_keeps_what_it_has() {
        let spool = spool(100);
        let mut area = spool.create();
        area.append(&vec![1; 256 * 1024]).unwrap();
        assert!(area.append(&[2; 101]).is_err());
        area.append(&[3; 100]).unwrap();
        let mut read = [0; 101];
        area.read_exact_at(256 * 1024 - 1, &mut read).unwrap();
        assert_eq!((read[0], read[1], read[100]), (1, 3, 3));
    }

    #[test]
    fn memory_is_bounded_for_all_areas_together() {
        let spool = spool(1 << 30);
        let areas: Vec<_> = (0..100)
            .map(|_| {
                let mut area = spool.create();
                area.append(&vec![0; 256 * 1024]).unwrap();
                area
            })
            .collect();
        assert!(spool.0.memory.used.load(Ordering::Relaxed) <= MEMORY_BYTES);
        assert!(spool.0.files.used.load(Ordering::Relaxed) > 0);
        drop(areas);
    }
}
