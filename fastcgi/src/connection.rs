//! The life of one connection, in a thread of its own: wait, read a request, let it be handled, again. Touches its
//! socket.

use crate::notices::Incident;
use crate::output::Output;
use crate::parser::{Event, Head, Limits, Parser};
use crate::protocol::ProtocolError;
use crate::request::Request;
use crate::server::Shared;
use crate::socket::Socket;
use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The buffer that a connection starts with: a small request is read by one call.
const READ_BYTES: usize = 2 * 1024;
/// A buffer beyond this is not kept between requests.
const KEPT_BYTES: usize = 16 * 1024;
/// How far it grows where much arrives.
const MOST_READ_BYTES: usize = 64 * 1024;
/// How long the end of a connection waits for a peer that still sends.
const LINGER: Duration = Duration::from_secs(2);

/// Where a request leaves the connection when it is over.
pub(crate) type Home = Rc<Cell<Option<Box<Connection>>>>;

pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) socket: Arc<Socket>,
    pub(crate) output: Output,
    pub(crate) parser: Parser,
    input: Input,
    /// Nothing more can be sent.
    pub(crate) is_broken: bool,
}

/// What was read; all before `at` was fed to the parser.
#[derive(Default)]
struct Input {
    buffer: Vec<u8>,
    at: usize,
}

/// What [`Connection::next`] found besides records that it answered by itself.
pub(crate) enum Next {
    Request(Head),
    /// Where the bytes of a stream are in the buffer.
    Stdin(Range<usize>),
    StdinEnd,
    Data(Range<usize>),
    DataEnd,
    Abort,
    /// All that was read is used up.
    Nothing,
    /// The connection ends, with or without an error of the peer.
    End,
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>, socket: Arc<Socket>) -> Self {
        let options = shared.options();
        let limits =
            Limits { max_params_bytes: options.max_params_bytes, max_connections: options.max_connections.max(1) };
        Self {
            shared,
            socket,
            output: Output::default(),
            parser: Parser::new(limits),
            input: Input::default(),
            is_broken: false,
        }
    }

    /// Serves requests until the connection ends.
    pub(crate) fn run(self, handler: &dyn Fn(Request)) {
        let home = Home::default();
        let mut connection = Box::new(self);
        while let Some(head) = connection.wait_for_request() {
            let (shared, keep) = (connection.shared.clone(), head.keep_connection);
            let in_flight = shared.begin();
            let request = Request::new(connection, home.clone(), head);
            // In a request that is dropped by unwinding, nothing is sent any more.
            if catch_unwind(AssertUnwindSafe(|| handler(request))).is_err() {
                shared.notices.log(Incident::HandlerPanic, log::Level::Error, || {
                    "an internal error: the handler of a request panicked; the connection is closed".into()
                });
            }
            drop(in_flight);
            let Some(returned) = home.take() else { return };
            connection = returned;
            if connection.is_broken {
                break;
            }
            if !keep || shared.is_draining() {
                connection.linger();
                break;
            }
            connection.parser.end();
            connection.output.rest();
            connection.input.rest();
        }
        connection.close();
    }

    /// Other holders of the socket must not keep it open.
    fn close(self) {
        if Arc::strong_count(&self.socket) > 1 {
            self.socket.shut_down();
        }
    }

    /// Reads up to the end of the parameters; none: the connection ends.
    fn wait_for_request(&mut self) -> Option<Head> {
        let mut deadline = None;
        loop {
            match self.next() {
                Next::Request(head) => return Some(head),
                Next::End => return None,
                Next::Nothing => (),
                _ => continue,
            }
            if !self.parser.has_begun() {
                deadline = None;
                if !self.fill(None) {
                    return None;
                }
            } else {
                let limit = self.shared.options().request_timeout;
                let deadline = deadline.get_or_insert_with(|| Instant::now() + limit);
                if !self.fill(Some(*deadline)) {
                    return None;
                }
            }
        }
    }

    /// The next event in what was read; answers what the protocol itself must answer.
    pub(crate) fn next(&mut self) -> Next {
        loop {
            let unread = self.input.unread();
            let mut rest = unread;
            let event = self.parser.next(&mut rest);
            let at = self.input.at + unread.len() - rest.len();
            let next = match event {
                Ok(None) => Next::Nothing,
                Ok(Some(Event::Request(head))) => Next::Request(head),
                Ok(Some(Event::Stdin(bytes))) => Next::Stdin(at - bytes.len()..at),
                Ok(Some(Event::Data(bytes))) => Next::Data(at - bytes.len()..at),
                Ok(Some(Event::StdinEnd)) => Next::StdinEnd,
                Ok(Some(Event::DataEnd)) => Next::DataEnd,
                Ok(Some(Event::Abort)) => Next::Abort,
                Ok(Some(Event::Reply { bytes, is_last })) => {
                    self.input.at = at;
                    self.output.push(&bytes);
                    if !self.flush() {
                        return Next::End;
                    }
                    if is_last {
                        self.linger();
                        return Next::End;
                    }
                    continue;
                }
                Err(error) => {
                    self.refuse(error);
                    return Next::End;
                }
            };
            self.input.at = at;
            return next;
        }
    }

    /// Bytes that [`Connection::next`] pointed to; good until the next [`Connection::fill`].
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.input.buffer.get(range).unwrap_or_default()
    }

    /// Bytes that were read and not looked at.
    pub(crate) fn unread(&self) -> &[u8] {
        self.input.unread()
    }

    /// Reads more, when all that was read is used up; whether there is more. Without a deadline it waits for as long as
    /// a connection may be idle.
    pub(crate) fn fill(&mut self, deadline: Option<Instant>) -> bool {
        let was_full = self.input.buffer.len() == self.input.buffer.capacity();
        if was_full && self.input.buffer.capacity() < MOST_READ_BYTES {
            let bytes = (self.input.buffer.capacity() * 2).clamp(READ_BYTES, MOST_READ_BYTES);
            self.input.buffer = Vec::with_capacity(bytes);
        }
        self.input.at = 0;
        let result = match deadline {
            None => self.socket.receive(&mut self.input.buffer),
            Some(deadline) => self.socket.receive_until(&mut self.input.buffer, deadline),
        };
        let notices = &self.shared.notices;
        match result {
            Ok(count) => count > 0,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                notices.log(Incident::RequestTimeout, log::Level::Warn, || {
                    let limit = self.shared.options().request_timeout.as_millis();
                    format!("a request did not arrive within {limit} ms: its connection is closed")
                });
                false
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                notices.log(Incident::IdleTimeout, log::Level::Info, || "an idle connection is closed".into());
                false
            }
            Err(_) => false, // reset by the peer
        }
    }

    /// Sends what is waiting; whether that worked.
    pub(crate) fn flush(&mut self) -> bool {
        let result = self.output.send(&self.socket, self.shared.options().send_timeout);
        self.sent(result).is_ok()
    }

    /// Looks at the result of sending: after an error nothing can be sent any more.
    pub(crate) fn sent<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.is_broken = true;
            self.output.discard();
            if error.kind() == io::ErrorKind::TimedOut {
                self.shared.notices.log(Incident::SendTimeout, log::Level::Warn, || {
                    let limit = self.shared.options().send_timeout.as_millis();
                    format!("a web server read nothing of an answer for {limit} ms: its connection is closed")
                });
            }
        }
        result
    }

    fn refuse(&self, error: ProtocolError) {
        if let ProtocolError::ParamsTooLong(_) = error {
            let line = || format!("a request has {error}: its connection is closed");
            self.shared.notices.log(Incident::ParamsLimit, log::Level::Warn, line);
        } else {
            log::debug!("a web server sent {error}: its connection is closed");
        }
    }

    /// Before the end of a connection whose peer may still be sending: to close it with unread input would make the
    /// kernel drop the end of the answer.
    fn linger(&mut self) {
        while !self.parser.is_stdin_over() {
            match self.next() {
                Next::Nothing | Next::End => break,
                _ => (),
            }
        }
        if self.parser.is_stdin_over() && self.input.unread().is_empty() {
            return;
        }
        self.socket.end_sending();
        let deadline = Instant::now() + LINGER;
        self.input.buffer.reserve_exact(READ_BYTES);
        while let Ok(1..) = self.socket.receive_until(&mut self.input.buffer, deadline) {}
    }
}

impl Input {
    fn unread(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// Between two requests a large buffer is given back, unless it holds the next one.
    fn rest(&mut self) {
        if self.buffer.capacity() > KEPT_BYTES && self.unread().is_empty() {
            *self = Self::default();
        }
    }
}
