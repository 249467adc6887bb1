//! One connected socket: reads, and writes that never wait for longer than they may. Touches that socket alone.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, recv, send, sockopt};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lost hosts are noticed after about two minutes: six probes, ten seconds apart, after a minute of silence.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 6);

/// A Unix socket is writable for `poll` only when three quarters of it are free. A reader that is slower than that
/// makes progress all the same, which an attempt to send shows.
const SEND_ATTEMPTS: Duration = Duration::from_secs(1);

/// The kinds of sockets that differ here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Unix,
    Tcp,
}

impl Family {
    pub(crate) fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        match sockopt::socket_domain(socket)? {
            AddressFamily::INET | AddressFamily::INET6 => Ok(Self::Tcp),
            _ => Ok(Self::Unix),
        }
    }
}

/// A connection to a web server.
#[derive(Debug)]
pub(crate) struct Socket {
    descriptor: OwnedFd,
    family: Family,
    /// How often it was read: who looks ahead learns that somebody else took what it saw.
    reads: AtomicU64,
}

impl Socket {
    /// Prepares an accepted socket; `idle` limits [`Socket::receive`].
    pub(crate) fn new(descriptor: OwnedFd, family: Family, idle: Option<Duration>) -> io::Result<Self> {
        if family == Family::Tcp {
            // Answers are written whole; to collect small ones would only delay them.
            sockopt::set_tcp_nodelay(&descriptor, true)?;
            sockopt::set_socket_keepalive(&descriptor, true)?;
            sockopt::set_tcp_keepidle(&descriptor, KEEPALIVE.0)?;
            sockopt::set_tcp_keepintvl(&descriptor, KEEPALIVE.1)?;
            sockopt::set_tcp_keepcnt(&descriptor, KEEPALIVE.2)?;
        }
        if family == Family::Tcp || idle.is_some() {
            // TCP sockets inherit the limit of the listening socket.
            sockopt::set_socket_timeout(&descriptor, sockopt::Timeout::Recv, idle)?;
        }
        Ok(Self { descriptor, family, reads: AtomicU64::new(0) })
    }

    pub(crate) fn family(&self) -> Family {
        self.family
    }

    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    /// Replaces what is in `buffer`, up to its capacity, by what arrives; waits for it. No bytes: the peer closed.
    pub(crate) fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        self.receive_with(buffer, RecvFlags::empty())
    }

    /// The same, up to a point in time.
    pub(crate) fn receive_until(&self, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<usize> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.wait(PollFlags::IN, left)?;
            match self.receive_with(buffer, RecvFlags::DONTWAIT) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                result => return result,
            }
        }
    }

    fn receive_with(&self, buffer: &mut Vec<u8>, flags: RecvFlags) -> io::Result<usize> {
        loop {
            buffer.clear();
            self.reads.fetch_add(1, Ordering::SeqCst);
            match recv(&self.descriptor, rustix::buffer::spare_capacity(buffer), flags) {
                Ok((count, _)) => return Ok(count),
                Err(Errno::INTR) => (),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Looks at what arrived and leaves it there.
    pub(crate) fn peek(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        buffer.clear();
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        Ok(recv(&self.descriptor, rustix::buffer::spare_capacity(buffer), flags)?.0)
    }

    /// Sends what the peer takes right now.
    pub(crate) fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match send(&self.descriptor, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => (),
                result => return Ok(result?),
            }
        }
    }

    /// Sends all; an error of the kind `TimedOut` after so long a time in which the peer took nothing.
    pub(crate) fn send_all(&self, mut bytes: &[u8], limit: Duration) -> io::Result<()> {
        let mut stuck_since: Option<Instant> = None;
        while !bytes.is_empty() {
            match self.try_send(bytes) {
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    stuck_since = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = limit.saturating_sub(stuck_since.get_or_insert_with(Instant::now).elapsed());
                    if left.is_zero() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    self.wait(PollFlags::OUT, left.min(SEND_ATTEMPTS))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait(&self, flags: PollFlags, limit: Duration) -> io::Result<()> {
        wait(&mut [PollFd::new(self, flags)], Some(limit))
    }

    /// Ends the connection for all who hold it.
    pub(crate) fn shut_down(&self) {
        let _ = rustix::net::shutdown(&self.descriptor, Shutdown::Both);
    }

    /// Ends the connection with an error for the peer, as far as the kernel can: over TCP it is reset. At once, and not
    /// when the descriptor is closed: the watcher may hold it still.
    pub(crate) fn reset(&self) {
        if self.family == Family::Tcp {
            let _ = sockopt::set_socket_linger(&self.descriptor, Some(Duration::ZERO));
            let _ = rustix::net::connect_unspec(&self.descriptor);
        }
    }

    /// Ends the sending half, so that the peer reads all to the end.
    pub(crate) fn end_sending(&self) {
        let _ = rustix::net::shutdown(&self.descriptor, Shutdown::Write);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Waits for one of some descriptors; an interruption by a signal counts as well.
pub(crate) fn wait(ready: &mut [PollFd<'_>], limit: Option<Duration>) -> io::Result<()> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(ready, limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
