//! Signals as descriptors that become readable. Touches the signal handlers of the process.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What a worker is asked from outside.
#[derive(Debug)]
pub struct Signals {
    /// Readable: stop.
    pub stop: UnixStream,
    /// A byte for each request to reload.
    pub reload: UnixStream,
}

impl Signals {
    /// SIGTERM, SIGINT and, as the FastCGI specification has it, SIGUSR1 stop; a second one of them ends the process at
    /// once. SIGHUP reloads.
    pub fn register() -> io::Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
        let (stop, stop_writer) = UnixStream::pair()?;
        let (reload, reload_writer) = UnixStream::pair()?;
        let has_stopped = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT, SIGUSR1] {
            signal_hook::flag::register_conditional_shutdown(signal, 1, has_stopped.clone())?;
            signal_hook::flag::register(signal, has_stopped.clone())?;
            signal_hook::low_level::pipe::register(signal, stop_writer.try_clone()?)?;
        }
        signal_hook::low_level::pipe::register(SIGHUP, reload_writer)?;
        Ok(Self { stop, reload })
    }
}
