//! What is on its way to the web server: records that are put together in memory and leave in as few writes as
//! possible (FastCGI 1.0, section 3.3). Touches the socket that it is given.

use crate::protocol::{self, HEADER_BYTES, MAX_CONTENT_BYTES, ProtocolStatus, kind};
use crate::socket::Socket;
use std::io;
use std::time::Duration;

/// Output that is smaller than this waits for the end of the request, for a flush, or for more of it.
pub(crate) const SMALL_BYTES: usize = 16 * 1024;

/// A buffer beyond this is not kept for the next request.
const KEPT_BYTES: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Output {
    buffer: Vec<u8>,
    /// How much of it was sent.
    sent: usize,
    /// The record at the end, to which more can be added.
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    kind: u8,
    request_id: u16,
    header_at: usize,
}

impl Output {
    /// Adds to the stream of a kind; returns how many of the bytes fit into its record.
    pub(crate) fn append(&mut self, kind: u8, request_id: u16, bytes: &[u8]) -> usize {
        let is_same = |open: &Open| (open.kind, open.request_id) == (kind, request_id);
        let header_at = match self.open.filter(is_same) {
            Some(open) => open.header_at,
            None => {
                self.close_record();
                let header_at = self.buffer.len();
                self.buffer.extend_from_slice(&protocol::header(kind, request_id, 0).encode());
                self.open = Some(Open { kind, request_id, header_at });
                header_at
            }
        };
        let room = MAX_CONTENT_BYTES.saturating_sub(self.buffer.len() - header_at - HEADER_BYTES);
        let fitting = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(fitting);
        fitting.len()
    }

    /// Whether the record at the end is as long as records get.
    pub(crate) fn is_full(&self) -> bool {
        self.open.is_some_and(|open| self.buffer.len() - open.header_at >= MAX_CONTENT_BYTES + HEADER_BYTES)
    }

    pub(crate) fn unsent_bytes(&self) -> usize {
        self.buffer.len() - self.sent
    }

    /// Adds whole records.
    pub(crate) fn push(&mut self, records: &[u8]) {
        self.close_record();
        self.buffer.extend_from_slice(records);
    }

    /// Adds the end of a stream (section 3.3) or of the request (section 5.5).
    pub(crate) fn push_stream_end(&mut self, kind: u8, request_id: u16) {
        self.close_record();
        protocol::push_record(&mut self.buffer, kind, request_id, &[]);
    }

    pub(crate) fn push_end_request(&mut self, request_id: u16, app_status: u32, status: ProtocolStatus) {
        self.close_record();
        protocol::push_end_request(&mut self.buffer, request_id, app_status, status);
    }

    fn close_record(&mut self) {
        let Some(open) = self.open.take() else { return };
        let content_bytes = self.buffer.len() - open.header_at - HEADER_BYTES;
        let header = protocol::header(open.kind, open.request_id, content_bytes);
        if let Some(place) = self.buffer.get_mut(open.header_at..open.header_at + HEADER_BYTES) {
            place.copy_from_slice(&header.encode());
        }
        self.buffer.resize(self.buffer.len() + usize::from(header.padding_bytes), 0);
    }

    /// Sends all; waits for as long as the peer makes progress.
    pub(crate) fn send(&mut self, socket: &Socket, limit: Duration) -> io::Result<()> {
        self.close_record();
        let result = socket.send_all(self.buffer.get(self.sent..).unwrap_or_default(), limit);
        self.discard();
        result
    }

    /// Sends what the peer takes right now; whether that was all.
    pub(crate) fn try_send(&mut self, socket: &Socket) -> io::Result<bool> {
        self.close_record();
        while self.unsent_bytes() > 0 {
            match socket.try_send(self.buffer.get(self.sent..).unwrap_or_default()) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.discard();
        Ok(true)
    }

    /// Drops what was not sent.
    pub(crate) fn discard(&mut self) {
        self.buffer.clear();
        self.sent = 0;
        self.open = None;
    }

    /// Between two requests.
    pub(crate) fn rest(&mut self) {
        if self.buffer.capacity() > KEPT_BYTES {
            self.buffer = Vec::new();
        }
    }

    /// Adds what ends a complete answer.
    pub(crate) fn push_end(&mut self, request_id: u16, app_status: u32, status: ProtocolStatus, has_errors: bool) {
        if status == ProtocolStatus::RequestComplete {
            self.push_stream_end(kind::STDOUT, request_id);
            if has_errors {
                self.push_stream_end(kind::STDERR, request_id);
            }
        }
        self.push_end_request(request_id, app_status, status);
    }
}
