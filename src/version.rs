//! What this executable is: its version, and the commit that it was built from. Pure.

/// Such as `0.1.0`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Twelve digits, `, modified` after them if files differed from the commit, or `unknown`: see build.rs.
pub const COMMIT: &str = env!("BUILD_COMMIT");

/// The answer to `callstats --version`, without the end of the line.
pub const FULL: &str = concat!("callstats ", env!("CARGO_PKG_VERSION"), " (commit ", env!("BUILD_COMMIT"), ")");
