//! A text that knows at which line and byte its reader is, and how much of it one record has taken.

use super::MAX_BYTES;
use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

const CHUNK: usize = 64 * 1024;

/// Where the reader is. Shared, because a parser owns the text while it reads.
#[derive(Debug, Default)]
pub struct Position {
    /// Line ends so far.
    pub lines: Cell<u64>,
    pub bytes: Cell<u64>,
    /// Where the record began that is being read.
    pub record: Cell<u64>,
}

pub struct Lines<'a> {
    text: &'a mut dyn Read,
    buffer: Vec<u8>,
    given: usize,
    position: Rc<Position>,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a mut dyn Read) -> Self {
        Self { text, buffer: Vec::new(), given: 0, position: Rc::default() }
    }

    pub fn position(&self) -> Rc<Position> {
        Rc::clone(&self.position)
    }

    /// The first byte that is not white space, which stays.
    pub fn first(&mut self) -> io::Result<Option<u8>> {
        let buffer = self.fill_buf()?;
        Ok(buffer.iter().find(|byte| !byte.is_ascii_whitespace()).copied())
    }

    /// The rest, without counting.
    pub fn into_rest(self) -> impl Read + use<'a> {
        io::Cursor::new(self.buffer.get(self.given..).unwrap_or_default().to_vec()).chain(self.text)
    }
}

impl BufRead for Lines<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.given == self.buffer.len() {
            self.buffer.resize(CHUNK, 0);
            self.given = 0;
            let read = self.text.read(&mut self.buffer);
            self.buffer.truncate(read.as_ref().copied().unwrap_or_default());
            read?;
        }
        Ok(&self.buffer[self.given..])
    }

    fn consume(&mut self, amount: usize) {
        let end = (self.given + amount).min(self.buffer.len());
        let lines = self.buffer[self.given..end].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.given = end;
        self.position.lines.set(self.position.lines.get() + lines);
        self.position.bytes.set(self.position.bytes.get() + amount as u64);
    }
}

impl Read for Lines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position.bytes.get() - self.position.record.get() > MAX_BYTES {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let available = self.fill_buf()?;
        let size = available.len().min(buffer.len());
        buffer[..size].copy_from_slice(&available[..size]);
        self.consume(size);
        Ok(size)
    }
}
