//! FastCGI 1.0 for application servers.
//!
//! The functions and types of the crate `fastcgi` 1.0.0 are all here, and a program that was written for it compiles:
//!
//! ```no_run
//! use std::io::Write;
//!
//! fastcgi::run(|mut request| {
//!     let _ = write!(&mut request.stdout(), "Content-Type: text/plain\n\nHello, world!");
//! });
//! ```
//!
//! A long-lived worker uses [`Server`] instead: it has limits, and it can be stopped, see
//! [`Server::serve`] and [`Server::shut_down`]. A thread serves each connection, one request after the other
//! (multiplexing is refused, as the protocol provides for it).
//!
//! - [`protocol`] knows the numbers and layouts, [`parser`] the rules. Neither does any input or output.
//! - A peer cannot make this crate panic, allocate without bound, or wait without bound.
//! - Limits that are reached go to the log, by the crate `log`.

mod connection;
mod notices;
mod output;
pub mod parser;
mod peers;
pub mod protocol;
mod request;
mod server;
mod socket;
mod watch;

pub use notices::{Counters, Incident};
pub use parser::Parameters;
pub use peers::{AllowedPeers, InvalidPeers};
pub use protocol::Role;
pub use request::{Params, Request, Stderr, Stdin, Stdout};
pub use server::{Options, Server};
pub use watch::DisconnectGuard;

use std::net::TcpListener;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, RawFd};

/// Serves requests from the listening socket that a web server or process manager gave as standard input
/// (section 2.2), with the default [`Options`] and `FCGI_WEB_SERVER_ADDRS`.
///
/// Returns, with a line in the log, only if that is no listening socket or the variable is invalid.
pub fn run<F>(handler: F)
where
    F: Fn(Request) + Send + Sync + 'static,
{
    serve(handler, std::io::stdin().as_fd());
}

/// The same from a descriptor that must stay open: a listening socket, TCP or Unix.
pub fn run_raw<F>(handler: F, raw_fd: RawFd)
where
    F: Fn(Request) + Send + Sync + 'static,
{
    if raw_fd < 0 {
        return log::error!("cannot serve: {raw_fd} is no descriptor");
    }
    // SAFETY: a descriptor number is all that this function of 1.0.0 gets. One that is not open is an error of each
    // system call, not undefined behaviour; nothing here closes it.
    #[allow(unsafe_code)]
    let listener = unsafe { BorrowedFd::borrow_raw(raw_fd) };
    serve(handler, listener);
}

/// The same from a TCP listener.
pub fn run_tcp<F>(handler: F, listener: &TcpListener)
where
    F: Fn(Request) + Send + Sync + 'static,
{
    serve(handler, listener.as_fd());
}

fn serve(handler: impl Fn(Request) + Send + Sync + 'static, listener: BorrowedFd<'_>) {
    let allowed_peers = match AllowedPeers::from_env() {
        Ok(allowed_peers) => allowed_peers,
        Err(error) => return log::error!("cannot serve: {error}"),
    };
    let server = Server::new(Options { allowed_peers, ..Options::default() }, handler);
    if let Err(error) = server.serve(listener, &[], |_| ControlFlow::Continue(())) {
        log::error!("cannot serve: {error}");
    }
}
