//! A FastCGI worker from its start to its end: wires the pool, the root token, the metrics and the transport. Touches
//! what they touch.

use crate::answer::{self, Completion, Context};
use crate::api::cgi::CgiParams;
use crate::client::Client;
use crate::config::Config;
use crate::database::{Connector, Pool};
use crate::server::fastcgi;
use crate::server::manager::ServiceManager;
use crate::server::metrics::{self, Metrics};
use crate::server::root_token::RootTokenFile;
use crate::server::signals::Signals;
use crate::server::spool::Spool;
use crate::version;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

/// Serves the requests of a listening socket until a signal stops it.
pub fn run(config: &Config, connector: Connector, listener: BorrowedFd<'_>, signals: &Signals) -> io::Result<()> {
    let manager = ServiceManager::from_env()?;
    let pool = Pool::new(&config.database, connector);
    let root_token = Arc::new(RootTokenFile::new(config.root_token_file.clone()));
    root_token.token(); // logs a problem at the start
    let reload = {
        let root_token = root_token.clone();
        move || root_token.reload()
    };
    let spool = Spool::new(config.spool_dir.clone(), config.spool_max_bytes);
    let (prefix, path_source, open_range) = (config.prefix.clone(), config.path_source, config.open_range);
    let (started, metrics) = (Instant::now(), Metrics::new(config.transport.counters.clone()));
    log::info!(target: "callstats", "{} serves {prefix}/", version::FULL);
    let handler = move |params: &CgiParams, client: &mut dyn Client| {
        if params.is_probe {
            let response = metrics::response(params, &metrics, pool.state(), started.elapsed());
            return client.write_all(&response).is_ok();
        }
        let root_token = root_token.token();
        let context = Context { prefix: &prefix, path_source, open_range, root_token, store: &pool, scratch: &spool };
        let outcome = answer::answer(&context, params, client);
        log::log!(target: "callstats", outcome.log_level(), "{}", outcome.log_line());
        metrics.count(&outcome);
        outcome.completion == Completion::Complete
    };
    fastcgi::serve(listener, signals, &manager, config.transport.clone(), config.drain, reload, handler)?;
    log::info!(target: "callstats", "stopped");
    Ok(())
}
