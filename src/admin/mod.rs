//! The operator's commands. A worker runs none of this.

pub mod adopt;
pub mod check;
mod env_file;
mod installed;

pub use env_file::environment;
