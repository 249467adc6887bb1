//! The socket of `callstats --listen`. Touches the file system and the network.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A bound socket; one in the file system is removed with it.
#[derive(Debug)]
pub enum Listener {
    /// `/path/to.sock`, open to owner and group.
    Unix(UnixListener, PathBuf),
    /// `host:port`.
    Tcp(TcpListener),
}

impl Listener {
    /// Binds an address: a path that starts with a slash, or host and port.
    pub fn bind(address: &str) -> io::Result<Self> {
        if !address.starts_with('/') {
            return Ok(Self::Tcp(TcpListener::bind(address)?));
        }
        let path = Path::new(address);
        remove_left_over(path)?;
        // What is not there yet nobody can connect to: the mode comes before the first connection is accepted.
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(Self::Unix(listener, path.to_owned()))
    }
}

/// Removes a socket whose process is gone; leaves one in use, and any other file, alone.
fn remove_left_over(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
            _ => Ok(()), // bind says that it is in use
        },
        _ => Ok(()),
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener, _) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}
