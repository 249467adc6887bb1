//! A response on its way to the client, slower or faster than the database. Touches its ports, which are the client and
//! the scratch storage that takes what the client has not taken yet, and the log.

use crate::client::Client;
use crate::scratch::{Scratch, ScratchSpace};
use std::io::{self, Write};

/// A piece that is sent at once. It fits into one record of FastCGI.
const PIECE_BYTES: usize = 32 * 1024;

/// Writes never wait for the client: what it does not take at once is stored, and sent by [`ResponseWriter::finish`].
/// Only if the storage is full they wait. For a HEAD request only the headers are sent.
pub struct ResponseWriter<'a> {
    client: &'a mut dyn Client,
    space: &'a dyn ScratchSpace,
    is_head: bool,
    /// Not handed over yet.
    piece: Vec<u8>,
    /// What the client did not take yet, from `stored_sent` on. Sent before anything else.
    stored: Option<Box<dyn Scratch>>,
    stored_sent: u64,
    has_started: bool,
    client_failed: bool,
}

impl<'a> ResponseWriter<'a> {
    pub fn new(client: &'a mut dyn Client, space: &'a dyn ScratchSpace, is_head: bool) -> Self {
        Self {
            client,
            space,
            is_head,
            piece: Vec::new(),
            stored: None,
            stored_sent: 0,
            has_started: false,
            client_failed: false,
        }
    }

    /// Whether anything was sent or stored, so that the status cannot change any more.
    pub fn has_started(&self) -> bool {
        self.has_started
    }

    /// Whether an error was the client's, rather than the storage's.
    pub fn client_failed(&self) -> bool {
        self.client_failed
    }

    /// For what watches over the client meanwhile.
    pub fn client(&self) -> &dyn Client {
        &*self.client
    }

    /// Starts over with these headers. Nothing may have started.
    pub fn headers(&mut self, headers: &[u8]) {
        self.piece.clear();
        self.piece.extend_from_slice(headers);
    }

    /// Sends the rest, and waits until the client has taken all of it.
    pub fn finish(&mut self) -> io::Result<()> {
        self.has_started = true;
        self.send_stored()?;
        let sent = self.client.write_all(&self.piece).and_then(|()| self.client.flush());
        self.piece.clear();
        self.client_failed |= sent.is_err();
        sent
    }

    fn hand_over(&mut self) -> io::Result<()> {
        self.has_started = true;
        let piece = std::mem::take(&mut self.piece);
        let result = self.send_or_store(&piece);
        self.piece = piece; // its memory serves the next piece
        self.piece.clear();
        result
    }

    fn send_or_store(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.stored.is_some() {
            self.try_send_stored()?;
        }
        if self.stored.is_none() {
            let taken = self.client.try_write(bytes).inspect_err(|_| self.client_failed = true)?;
            bytes = &bytes[taken.min(bytes.len())..];
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let space = self.space;
        match self.stored.get_or_insert_with(|| space.create()).append(bytes) {
            Ok(()) => Ok(()),
            // No space is left: now the client is waited for, with the session held meanwhile.
            Err(error) => {
                log::warn!(
                    "cannot store a response for a slow client: {error}; it keeps its database connection until the \
                     client has read it. Hint: make room in CALLSTATS_SPOOL_DIR, or raise CALLSTATS_SPOOL_MAX_BYTES"
                );
                self.send_stored()?;
                self.client.write_all(bytes).inspect_err(|_| self.client_failed = true)
            }
        }
    }

    /// Sends what is stored, for as long as the client takes it.
    fn try_send_stored(&mut self) -> io::Result<()> {
        self.send_stored_with(|client, bytes| client.try_write(bytes))
    }

    /// Sends all that is stored.
    fn send_stored(&mut self) -> io::Result<()> {
        self.send_stored_with(|client, bytes| client.write_all(bytes).map(|()| bytes.len()))
    }

    fn send_stored_with(&mut self, send: impl Fn(&mut dyn Client, &[u8]) -> io::Result<usize>) -> io::Result<()> {
        let Some(stored) = &mut self.stored else { return Ok(()) };
        let mut buffer = Vec::new();
        while self.stored_sent < stored.len() {
            let length = (stored.len() - self.stored_sent).min(PIECE_BYTES as u64);
            buffer.resize(usize::try_from(length).unwrap_or_default(), 0);
            stored.read_exact_at(self.stored_sent, &mut buffer)?;
            let taken = send(&mut *self.client, &buffer).inspect_err(|_| self.client_failed = true)?;
            self.stored_sent += taken as u64;
            if taken < buffer.len() {
                return Ok(());
            }
        }
        self.stored = None;
        self.stored_sent = 0;
        Ok(())
    }
}

/// Writes the body.
impl Write for ResponseWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_head {
            return Ok(bytes.len());
        }
        let length = bytes.len().min(PIECE_BYTES.saturating_sub(self.piece.len()).max(1));
        self.piece.extend_from_slice(&bytes[..length]);
        if self.piece.len() >= PIECE_BYTES {
            self.hand_over()?;
        }
        Ok(length)
    }

    /// Hands over what there is. It does not wait for the client either.
    fn flush(&mut self) -> io::Result<()> {
        if self.is_head || self.piece.is_empty() {
            return Ok(());
        }
        self.hand_over()?;
        match self.stored {
            Some(_) => Ok(()),
            None => self.client.try_flush().inspect_err(|_| self.client_failed = true),
        }
    }
}
