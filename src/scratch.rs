//! The port to temporary storage: bytes that are appended and read again, in memory while they are few. Pure;
//! [`crate::server::spool`] implements it with a bound and a file.

use std::io;

/// Hands out empty scratch areas.
pub trait ScratchSpace: Sync {
    fn create(&self) -> Box<dyn Scratch>;
}

/// Bytes that can be appended to and read at any place.
pub trait Scratch {
    /// How many bytes there are.
    fn len(&self) -> u64;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends all of the bytes, or none. Fails if the bound is reached or the disk is full.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Fills `buffer` with the bytes from `offset` on. All of them must be there.
    fn read_exact_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Removes all bytes.
    fn clear(&mut self);
}

/// Scratch areas in memory, without a bound: for tests, and for processes that need none.
#[derive(Debug, Default, Clone, Copy)]
pub struct InMemory;

impl ScratchSpace for InMemory {
    fn create(&self) -> Box<dyn Scratch> {
        Box::new(Vec::new())
    }
}

impl Scratch for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn read_exact_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let wanted = rest.get(..buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(wanted);
        Ok(())
    }

    fn clear(&mut self) {
        Vec::clear(self);
    }
}
