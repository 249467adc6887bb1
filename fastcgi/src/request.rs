//! One request: its parameters and streams, and the ways to end it. Touches its connection.

use crate::connection::{Connection, Home, Next};
use crate::output::SMALL_BYTES;
use crate::parser::{Head, Parameters};
use crate::protocol::{ProtocolStatus, Role, kind};
use crate::watch::DisconnectGuard;
use std::io::{self, BufRead, Read, Write};
use std::ops::Range;
use std::time::Instant;

/// The parameters of a request as text.
pub type Params<'a> = Box<dyn Iterator<Item = (String, String)> + 'a>;

/// A request as an application sees it: like a CGI process, with parameters instead of an environment.
///
/// It ends with the exit status 0 when it is dropped. It cannot leave the thread of its connection.
pub struct Request {
    /// Always there until it is dropped.
    connection: Option<Box<Connection>>,
    home: Home,
    request_id: u16,
    role: Role,
    parameters: Parameters,
    input: RequestInput,
    is_aborted: bool,
    has_errors: bool,
    ending: Ending,
}

/// What the application has read of its input streams.
#[derive(Debug, Default)]
struct RequestInput {
    /// Bytes in the connection's buffer.
    chunk: Range<usize>,
    is_over: bool,
    is_data: bool,
    /// The end of `FCGI_STDIN` and of `FCGI_DATA` has been seen.
    ends: (bool, bool),
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Exit(i32),
    Refuse(ProtocolStatus),
    Close,
}

impl Request {
    pub(crate) fn new(connection: Box<Connection>, home: Home, head: Head) -> Self {
        Self {
            connection: Some(connection),
            home,
            request_id: head.request_id,
            role: head.role,
            parameters: head.parameters,
            input: RequestInput::default(),
            is_aborted: false,
            has_errors: false,
            ending: Ending::Exit(0),
        }
    }

    /// What the web server wants (section 6).
    pub fn role(&self) -> Role {
        self.role
    }

    /// The value of a parameter; none also if it is not UTF-8: see [`Request::parameters`].
    pub fn param(&self, key: &str) -> Option<String> {
        String::from_utf8(self.parameters.get(key)?.to_vec()).ok()
    }

    /// The parameters that are UTF-8.
    pub fn params(&self) -> Params<'_> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        Box::new(self.parameters.iter().filter_map(move |(name, value)| Some((text(name)?, text(value)?))))
    }

    /// All parameters, as the bytes that arrived and in their order.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The input of the request (section 5.3).
    pub fn stdin(&mut self) -> Stdin<'_> {
        Stdin { request: self }
    }

    /// The response. It is buffered: what is short leaves with the end of the request, or by [`Write::flush`].
    pub fn stdout(&mut self) -> Stdout<'_> {
        Stdout { request: self }
    }

    /// Lines for the log of the web server. Buffered like [`Request::stdout`].
    pub fn stderr(&mut self) -> Stderr<'_> {
        Stderr { request: self }
    }

    /// Whether the web server has ended the request (section 5.4). Seen when the input is read;
    /// [`Request::on_disconnect`] sees it at once.
    pub fn is_aborted(&self) -> bool {
        self.is_aborted
    }

    /// Ends the request with the status that a CGI program would exit with (section 5.5).
    pub fn exit(mut self, code: i32) {
        self.ending = Ending::Exit(code);
    }

    /// Ends the request by closing its connection, without `FCGI_END_REQUEST`: a web server then knows that the answer
    /// is not complete. What was not sent yet is dropped. Over TCP the connection is reset.
    pub fn close(mut self) {
        self.ending = Ending::Close;
    }

    /// Ends a request of a role that the application does not have, with `FCGI_UNKNOWN_ROLE` (section 5.5).
    pub fn refuse_role(mut self) {
        self.ending = Ending::Refuse(ProtocolStatus::UnknownRole);
    }

    /// Ends a request that the application has no means for at this time, with `FCGI_OVERLOADED` (section 5.5).
    pub fn refuse_overloaded(mut self) {
        self.ending = Ending::Refuse(ProtocolStatus::Overloaded);
    }

    /// Runs an action, in a thread of its own, within a second after the web server has closed the connection or has
    /// ended the request; until the guard is dropped. Read the input before that: an abort behind input that nobody
    /// reads is seen in its first 64 kB.
    ///
    /// It costs no system call as long as requests are shorter than 100 ms and others are in flight.
    pub fn on_disconnect(&self, action: Box<dyn FnOnce() + Send>) -> Option<DisconnectGuard> {
        let connection = self.connection.as_ref()?;
        let mut scan = connection.parser.abort_scan();
        let is_aborted = self.is_aborted || scan.finds_abort(connection.unread());
        Some(connection.shared.watcher.register(&connection.socket, scan, is_aborted, action))
    }

    fn connection(&mut self) -> io::Result<&mut Connection> {
        if self.is_aborted {
            return Err(aborted());
        }
        match self.connection.as_deref_mut() {
            Some(connection) if !connection.is_broken => Ok(connection),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn write(&mut self, kind: u8, bytes: &[u8]) -> io::Result<usize> {
        let request_id = self.request_id;
        let connection = self.connection()?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let count = connection.output.append(kind, request_id, bytes);
        if connection.output.is_full() {
            self.flush()?;
        }
        Ok(count)
    }

    fn try_write(&mut self, kind: u8, bytes: &[u8]) -> io::Result<usize> {
        let request_id = self.request_id;
        let connection = self.connection()?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let is_small = connection.output.unsent_bytes() + bytes.len() < SMALL_BYTES;
        if !is_small && connection.output.unsent_bytes() >= SMALL_BYTES {
            let result = connection.output.try_send(&connection.socket);
            if !connection.sent(result)? {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        let count = connection.output.append(kind, request_id, bytes);
        if !is_small {
            let result = connection.output.try_send(&connection.socket);
            connection.sent(result)?;
        }
        Ok(count)
    }

    fn try_flush(&mut self) -> io::Result<bool> {
        let connection = self.connection()?;
        let result = connection.output.try_send(&connection.socket);
        connection.sent(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let connection = self.connection()?;
        let result = connection.output.send(&connection.socket, connection.shared.options().send_timeout);
        connection.sent(result)
    }

    /// Lets more input arrive; false: the stream is over.
    fn fill(&mut self) -> io::Result<bool> {
        while !self.input.is_over {
            let next = self.connection()?.next();
            let (is_stdin, is_data) = match next {
                Next::Stdin(chunk) if !self.input.is_data => {
                    self.input.chunk = chunk;
                    return Ok(true);
                }
                Next::Data(chunk) if self.input.is_data => {
                    self.input.chunk = chunk;
                    return Ok(true);
                }
                Next::StdinEnd => (true, false),
                Next::DataEnd => (false, true),
                Next::Abort => {
                    self.is_aborted = true;
                    return Err(aborted());
                }
                Next::End => return Err(self.lost()),
                Next::Nothing => {
                    let connection = self.connection()?;
                    let deadline = Instant::now() + connection.shared.options().request_timeout;
                    if !connection.fill(Some(deadline)) {
                        return Err(self.lost());
                    }
                    continue;
                }
                Next::Request(_) | Next::Stdin(_) | Next::Data(_) => continue,
            };
            let ends = &mut self.input.ends;
            (ends.0, ends.1) = (ends.0 || is_stdin, ends.1 || is_data);
            self.input.is_over = if self.input.is_data { ends.1 } else { ends.0 };
        }
        Ok(false)
    }

    /// The peer is gone, or broke the protocol, in the middle of the input.
    fn lost(&mut self) -> io::Error {
        if let Some(connection) = &mut self.connection {
            connection.is_broken = true;
        }
        io::ErrorKind::UnexpectedEof.into()
    }
}

fn aborted() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the web server has aborted the request")
}

impl Drop for Request {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let end = match self.ending {
            _ if std::thread::panicking() => None,
            Ending::Close => None,
            Ending::Exit(code) => Some((code, ProtocolStatus::RequestComplete)),
            Ending::Refuse(status) => Some((0, status)),
        };
        match end {
            Some((code, status)) if !connection.is_broken => {
                connection.output.push_end(self.request_id, code as u32, status, self.has_errors);
                connection.flush();
            }
            _ => {
                connection.output.discard();
                connection.is_broken = true;
                connection.socket.reset();
            }
        }
        self.home.set(Some(connection));
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Parameters can hold secrets.
        formatter.debug_struct("Request").field("role", &self.role).finish_non_exhaustive()
    }
}

/// Reads the input of a request.
#[derive(Debug)]
pub struct Stdin<'a> {
    request: &'a mut Request,
}

impl Stdin<'_> {
    /// Continues with `FCGI_DATA`, the second input of a filter (section 6.4). Does nothing before the end of the
    /// first.
    pub fn start_filter_data(&mut self) {
        let input = &mut self.request.input;
        if input.is_over && !input.is_data {
            input.is_data = true;
            input.is_over = input.ends.1;
        }
    }
}

impl BufRead for Stdin<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.request.is_aborted {
            return Err(aborted());
        }
        if self.request.input.chunk.is_empty() && !self.request.fill()? {
            return Ok(&[]);
        }
        let chunk = self.request.input.chunk.clone();
        Ok(self.request.connection()?.bytes(chunk))
    }

    fn consume(&mut self, amount: usize) {
        let chunk = &mut self.request.input.chunk;
        chunk.start = chunk.end.min(chunk.start + amount);
    }
}

impl Read for Stdin<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// Writes the response of a request.
#[derive(Debug)]
pub struct Stdout<'a> {
    request: &'a mut Request,
}

impl Stdout<'_> {
    /// Writes without ever waiting: an error of the kind `WouldBlock` says that the web server takes nothing now. Up to
    /// one record of what was written can wait in memory; later writes, a flush and the end of the request send it.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.request.try_write(kind::STDOUT, bytes)
    }

    /// Sends what waits in memory, without ever waiting for the web server; whether that was all.
    pub fn try_flush(&mut self) -> io::Result<bool> {
        self.request.try_flush()
    }

    /// How many bytes wait in memory to be sent, those of the protocol included.
    pub fn buffered_bytes(&self) -> usize {
        self.request.connection.as_ref().map_or(0, |connection| connection.output.unsent_bytes())
    }
}

impl Write for Stdout<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.request.write(kind::STDOUT, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.request.flush()
    }
}

/// Writes to the log of the web server.
#[derive(Debug)]
pub struct Stderr<'a> {
    request: &'a mut Request,
}

impl Write for Stderr<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.request.has_errors = true;
        self.request.write(kind::STDERR, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.request.flush()
    }
}
