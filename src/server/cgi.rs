//! One request from the environment, one response to standard output (RFC 3875). Touches the environment and standard
//! output.

use crate::answer::{self, Completion, Context, Outcome};
use crate::api::cgi::CgiParams;
use crate::api::error::ApiError;
use crate::api::response;
use crate::client::{Client, Unwatched, Watch};
use crate::config::Config;
use crate::database::{Connector, PoolState};
use crate::server::metrics::{self, Metrics};
use crate::server::root_token::RootTokenFile;
use crate::server::spool::Spool;
use crate::store::Store;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Stdout, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// What a pipe takes at once if it is ready for writing (`PIPE_BUF` of Linux).
const PIPE_BYTES: usize = 4096;

/// Answers the request of this process. Returns whether the response is complete.
pub fn serve(configured: &Result<(Config, Connector), Vec<String>>) -> bool {
    let params = CgiParams::collect(|name| std::env::var_os(name).map(OsStringExt::into_vec));
    let mut stdout = Output(io::stdout());
    let (config, connector) = match configured {
        Ok((config, connector)) => (config, connector),
        Err(_) => {
            // The client learns that it is not at fault; the log has the reasons.
            let error = ApiError::Internal(String::new());
            let (headers, body) = response::error(&error, &error.describe("", &[]));
            let body = if params.is_head() { Vec::new() } else { body };
            return stdout.write_all(&[headers, body].concat()).and_then(|()| stdout.flush()).is_ok();
        }
    };
    if params.is_probe {
        let pool = PoolState { is_up: connector.session().is_ok(), ..PoolState::default() };
        let response = metrics::response(&params, &Metrics::default(), pool, Duration::ZERO);
        return stdout.write_all(&response).and_then(|()| stdout.flush()).is_ok();
    }
    let context = Context {
        prefix: &config.prefix,
        path_source: config.path_source,
        open_range: config.open_range,
        root_token: RootTokenFile::new(config.root_token_file.clone()).token(),
        store: connector,
        scratch: &Spool::new(config.spool_dir.clone(), config.spool_max_bytes),
    };
    let outcome: Outcome = answer::answer(&context, &params, &mut stdout);
    log::log!(target: "callstats", outcome.log_level(), "{}", outcome.log_line());
    outcome.completion == Completion::Complete
}

/// Standard output, usually a pipe to the web server.
struct Output(Stdout);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Client for Output {
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() && self.is_ready()? {
            let end = bytes.len().min(written + PIPE_BYTES);
            // Around the buffer of `Stdout`, which would wait for the client once it is full.
            written += rustix::io::write(self.0.as_fd(), &bytes[written..end])?;
        }
        Ok(written)
    }

    fn try_flush(&mut self) -> io::Result<()> {
        Ok(()) // nothing is held back
    }

    fn on_disconnect(&self, _: Box<dyn FnOnce() + Send>) -> Box<dyn Watch> {
        Box::new(Unwatched)
    }
}

impl Output {
    fn is_ready(&self) -> io::Result<bool> {
        let mut ready = [PollFd::new(&self.0, PollFlags::OUT)];
        match poll(&mut ready, Some(&Timespec::default())) {
            Ok(count) => Ok(count > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
