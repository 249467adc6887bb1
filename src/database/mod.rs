//! PostgreSQL behind the port of [`crate::store`]: the URL, connections, the pool, statements, and the meaning of
//! errors. Touches the network, files of certificates and passwords, and the log. Each statement is a file in `sql/`.

mod availability;
mod client;
mod connection;
mod connector;
mod dial;
mod error;
mod fairness;
mod pool;
mod resolve;
mod socket;
mod tls;
mod transport;
mod url;

pub use connection::statements::{ADOPTED_ORGANIZATION_DAYS, ORGANIZATION_DAYS};
pub use connector::{Connector, Settings};
pub use error::describe;
pub use pool::{Pool, PoolState};
pub use url::DatabaseUrl;
