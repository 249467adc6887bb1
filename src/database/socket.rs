//! The socket of a database connection, and the loop that runs a future on it: what it asks is sent at once, and then
//! the thread waits in the very call that receives the reply. Touches the network.
//!
//! An event loop needs a call to wait and another one to receive, and is woken as well when the server takes what was
//! sent: for two statements that is three switches of threads more.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use socket2::{Domain, SockAddr, SockRef, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is received at once.
const READ_BYTES: usize = 16 * 1024;

/// How long the kernel waits for a reply by itself. A limit that ends before that is kept to with `poll`.
const TICK: Duration = Duration::from_millis(500);

/// One end of a connection, used by one thread at a time.
pub struct Socket {
    descriptor: OwnedFd,
    state: Mutex<State>,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct State {
    /// What has arrived; all before `at` was handed over.
    received: Vec<u8>,
    at: usize,
    /// Nothing more arrives.
    is_at_end: bool,
    /// Why; none: the server closed the connection.
    error: Option<io::Error>,
    /// More is to be sent than the kernel takes just now.
    is_full: bool,
    /// How long the server may send nothing while a reply is awaited.
    silence: Option<Duration>,
}

/// Whether a part of the future that runs can go on without the server.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The error of a server that was silent for too long.
#[derive(Debug)]
pub struct Silent(pub Duration);

impl std::fmt::Display for Silent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "no reply within {} ms", self.0.as_millis())
    }
}

impl std::error::Error for Silent {}

impl Socket {
    /// An error without a code of the system: it took too long.
    pub fn connect_tcp(address: SocketAddr, deadline: Instant) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        let left = deadline.saturating_duration_since(Instant::now());
        socket.connect_timeout(&address.into(), left.max(Duration::from_millis(1)))?;
        Self::new(socket.into())
    }

    /// A path that begins with `@` is a name in the abstract namespace.
    pub fn connect_unix(path: &Path, deadline: Instant) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let address = match path.to_str().and_then(|path| path.strip_prefix('@')) {
            Some(name) => SockAddr::unix(format!("\0{name}"))?,
            None => SockAddr::unix(path)?,
        };
        loop {
            // Connecting waits while the listen queue is full, for so long.
            let left = deadline.saturating_duration_since(Instant::now());
            socket.set_write_timeout(Some(left.max(Duration::from_millis(1))))?;
            match socket.connect(&address) {
                Ok(()) => return Self::new(socket.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error),
            }
        }
    }

    fn new(descriptor: OwnedFd) -> io::Result<Self> {
        SockRef::from(&descriptor).set_read_timeout(Some(TICK))?;
        Ok(Self { descriptor, state: Mutex::default(), woken: Arc::default() })
    }

    /// From now on, a server that sends nothing for so long while a reply is awaited counts as lost. None: it may take
    /// any time.
    pub fn limit_silence(&self, limit: Option<Duration>) {
        self.state().silence = limit;
    }

    /// Polls until the result is there, and waits for the server in between. None: it is not there by the deadline.
    pub fn run<T>(&self, deadline: Option<Instant>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
        let waker = Waker::from(self.woken.clone());
        let mut context = Context::from_waker(&waker);
        loop {
            self.woken.0.store(false, Ordering::Relaxed);
            if let Poll::Ready(result) = poll(&mut context) {
                return Some(result);
            }
            if !self.woken.0.load(Ordering::Relaxed) && !self.wait(deadline) {
                return None;
            }
        }
    }

    /// Waits until something arrives, or can be sent if there is something to send. False: the deadline is over.
    fn wait(&self, deadline: Option<Instant>) -> bool {
        let started = Instant::now();
        let (mut buffer, is_full, silence) = {
            let mut state = self.state();
            if state.is_at_end || state.at < state.received.len() {
                return deadline.is_none_or(|deadline| started < deadline);
            }
            state.at = 0;
            (std::mem::take(&mut state.received), state.is_full, state.silence)
        };
        buffer.clear(); // all of it was handed over
        // A limit beyond what the clock can count is none.
        let patience = silence.and_then(|limit| started.checked_add(limit));
        let received = loop {
            let end = [deadline, patience].into_iter().flatten().min();
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            // What has arrived counts, however late it is looked at.
            match self.receive(&mut buffer, is_full, left) {
                Ok(None) if left == Some(Duration::ZERO) => break None,
                Ok(None) => (),
                Ok(Some(received)) => break Some(Ok(received)),
                Err(error) => break Some(Err(error)),
            }
        };
        let mut state = self.state();
        state.received = buffer;
        match received {
            None if deadline.is_some_and(|deadline| patience.is_none_or(|patience| deadline < patience)) => {
                return false;
            }
            None => {
                let limit = silence.unwrap_or_default();
                state.end(io::Error::new(io::ErrorKind::TimedOut, Silent(limit)));
            }
            Some(Ok(Received::Bytes)) => (),
            Some(Ok(Received::End)) => state.is_at_end = true,
            Some(Ok(Received::Room)) => state.is_full = false,
            Some(Err(error)) => state.end(error.into()),
        }
        true
    }

    /// Waits for so long, or for less; none: nothing happened.
    fn receive(&self, buffer: &mut Vec<u8>, is_full: bool, left: Option<Duration>) -> Result<Option<Received>, Errno> {
        let mut flags = RecvFlags::empty();
        if is_full || left.is_some_and(|left| left < TICK) {
            flags = RecvFlags::DONTWAIT;
            let interest = if is_full { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            let mut ready = [PollFd::new(self, interest)];
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut ready, left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => (),
                Err(error) => return Err(error),
            }
            if ready[0].revents().contains(PollFlags::OUT) {
                return Ok(Some(Received::Room));
            }
        }
        buffer.clear();
        buffer.reserve_exact(READ_BYTES);
        match recv(&self.descriptor, rustix::buffer::spare_capacity(buffer), flags) {
            Ok((0, _)) => Ok(Some(Received::End)),
            Ok(_) => Ok(Some(Received::Bytes)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&self, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        let unread = state.received.get(state.at..).unwrap_or_default();
        let count = unread.len().min(buffer.remaining());
        if count > 0 {
            buffer.put_slice(&unread[..count]);
            state.at += count;
            return Poll::Ready(Ok(()));
        }
        match state.error.take() {
            Some(error) if state.is_at_end => Poll::Ready(Err(error)),
            error => {
                state.error = error;
                if state.is_at_end { Poll::Ready(Ok(())) } else { Poll::Pending }
            }
        }
    }

    fn write(&self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match send(&self.descriptor, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::INTR) => (),
                Err(Errno::AGAIN) => {
                    let mut state = self.state();
                    state.is_full = true;
                    // Whoever sends nothing any more reads nothing either.
                    return if state.is_at_end {
                        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
                    } else {
                        Poll::Pending
                    };
                }
                // The server may have said why before it closed the connection: that is met first.
                Err(error @ (Errno::PIPE | Errno::CONNRESET)) => {
                    self.state().error.get_or_insert(error.into());
                    return Poll::Ready(Ok(bytes.len()));
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Received {
    Bytes,
    End,
    /// Nothing, but the kernel takes more.
    Room,
}

impl State {
    fn end(&mut self, error: io::Error) {
        self.is_at_end = true;
        self.error.get_or_insert(error);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// The socket as the crate `tokio-postgres` and TLS use it: within [`Socket::run`] alone.
pub struct SocketStream(pub Arc<Socket>);

impl AsyncRead for SocketStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.read(buffer)
    }
}

impl AsyncWrite for SocketStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.write(bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(&self.0.descriptor, Shutdown::Write)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn pair() -> (Socket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        (Socket::new(ours.into()).expect("a socket"), theirs)
    }

    /// What arrives next; none: not by the deadline.
    fn receive(socket: &Socket, limit: Duration) -> Option<Vec<u8>> {
        let mut bytes = [0; 100];
        let read = socket.run(Some(Instant::now() + limit), |_| {
            let mut buffer = ReadBuf::new(&mut bytes);
            socket.read(&mut buffer).map(|result| result.map(|()| buffer.filled().to_vec()))
        });
        read.map(|result| result.expect("no error"))
    }

    #[test]
    fn nothing_is_received_twice_when_sending_had_to_wait() {
        let (socket, mut theirs) = pair();
        let long = Duration::from_secs(20);
        theirs.write_all(b"first").expect("sent");
        assert_eq!(receive(&socket, long), Some(b"first".to_vec()));
        let statement = vec![7; 4 << 20];
        let length = statement.len();
        let server = std::thread::spawn(move || {
            let mut bytes = vec![0; length];
            theirs.read_exact(&mut bytes).expect("received");
            theirs.write_all(b"second").expect("sent");
            theirs
        });
        let (mut sent, mut waits) = (0, 0);
        let done = socket.run(Some(Instant::now() + long), |_| {
            while sent < length {
                let mut bytes = [0; 100];
                assert!(socket.read(&mut ReadBuf::new(&mut bytes)).is_pending(), "nothing was sent meanwhile");
                match socket.write(&statement[sent..]) {
                    Poll::Ready(count) => sent += count.expect("no error"),
                    Poll::Pending => {
                        waits += 1;
                        return Poll::Pending;
                    }
                }
            }
            Poll::Ready(())
        });
        assert!(done.is_some() && waits > 0);
        assert_eq!(receive(&socket, long), Some(b"second".to_vec()));
        drop(server.join().expect("no panic"));
        assert_eq!(receive(&socket, long), Some(Vec::new()), "the end");
    }

    #[test]
    fn what_has_arrived_counts_although_the_time_is_over() {
        let (socket, mut theirs) = pair();
        socket.limit_silence(Some(Duration::ZERO));
        theirs.write_all(b"reply").expect("sent");
        assert_eq!(receive(&socket, Duration::ZERO), Some(b"reply".to_vec()));
        socket.limit_silence(None);
        assert_eq!(receive(&socket, Duration::from_millis(10)), None);
    }

    #[test]
    fn silence_ends_a_wait_with_an_error() {
        let (socket, _theirs) = pair();
        socket.limit_silence(Some(Duration::from_millis(20)));
        let mut bytes = [0; 100];
        let read =
            socket.run(Some(Instant::now() + Duration::from_secs(20)), |_| socket.read(&mut ReadBuf::new(&mut bytes)));
        let error = read.expect("within the limit").expect_err("nobody replies");
        assert!(error.get_ref().is_some_and(|cause| cause.is::<Silent>()), "{error}");
    }
}
