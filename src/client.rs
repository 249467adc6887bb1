//! The port to the client at the other end: a stream that is written to without waiting, and that reports when nobody
//! listens any more. [`crate::server`] implements it over FastCGI and CGI.

use std::io::{self, Write};

/// Writes wait for the client (`Write`) or do not (`try_write`).
pub trait Client: Write {
    /// Sends as much as the client takes at once, and returns how many bytes that are; 0 if it takes none now.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Sends what `try_write` has taken and holds back to send it with more; does not wait either.
    fn try_flush(&mut self) -> io::Result<()>;

    /// Runs `action` once, in another thread, as soon as the client is known to have disconnected: within a second if
    /// the web server closes the connection or aborts the request. Dropping the watch ends that; an action that has
    /// started is waited for.
    fn on_disconnect(&self, action: Box<dyn FnOnce() + Send>) -> Box<dyn Watch>;
}

/// A client that is watched.
pub trait Watch {
    /// Whether the client has disconnected, so that the action has run or runs.
    fn is_disconnected(&self) -> bool;
}

/// A watch over a client that cannot be watched, such as the standard output of a CGI process.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn is_disconnected(&self) -> bool {
        false
    }
}
