//! The socket of `callstats --listen`. Touches the file system, the network and the names of groups.

use crate::config::listen::{ListenAddress, SocketAccess};
use nix::unistd::{Gid, Group};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Connections that wait until they are accepted. The system's own limit is usually lower.
const BACKLOG: i32 = 65_535;

/// A bound socket; one in the file system is removed with it.
#[derive(Debug)]
pub enum Listener {
    Unix(Socket, SocketFile),
    Tcp(TcpListener),
}

/// The file of a socket, which another process may have replaced meanwhile.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and number.
    identity: (u64, u64),
}

/// Why it cannot listen, and what to do about it.
#[derive(Debug)]
pub struct Error {
    pub message: String,
    pub hint: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. Hint: {}", self.message, self.hint)
    }
}

impl Listener {
    /// Binds an address. `access` is of no meaning for TCP.
    pub fn bind(address: &ListenAddress, access: &SocketAccess) -> Result<Self, Error> {
        match address {
            ListenAddress::Tcp(address) => bind_tcp(address),
            ListenAddress::Unix(path) => bind_unix(path, access),
        }
    }
}

fn bind_tcp(address: &str) -> Result<Listener, Error> {
    TcpListener::bind(address).map(Listener::Tcp).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "stop the process that listens there, or use another port",
            io::ErrorKind::AddrNotAvailable => "use an address of this host",
            io::ErrorKind::PermissionDenied => "use a port from 1024 on",
            _ => "correct the host of --listen",
        };
        Error { message: format!("cannot listen on {address}: {error}"), hint: hint.into() }
    })
}

fn bind_unix(path: &Path, access: &SocketAccess) -> Result<Listener, Error> {
    let name = path.display();
    let failed =
        |cause: &dyn fmt::Display, hint: String| Error { message: format!("cannot listen on {name}: {cause}"), hint };
    let group = access.group.as_deref().map(|group| group_id(group).map(|id| (group, id)));
    let group = group.transpose().map_err(|text| failed(&text, "correct the group of the socket".into()))?;
    remove_left_over(path).map_err(|(cause, hint)| failed(&cause, hint.into()))?;
    let refused = |error: io::Error| {
        let folder = path.parent().unwrap_or(Path::new("/")).display();
        let hint = match error.kind() {
            io::ErrorKind::NotFound => format!("create the folder {folder}, owned by the worker's user"),
            io::ErrorKind::PermissionDenied => format!("let the worker's user write to the folder {folder}"),
            _ => "use another path".into(),
        };
        failed(&error, hint)
    };
    let address = SockAddr::unix(path).map_err(refused)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(refused)?;
    socket.bind(&address).map_err(refused)?;
    let file = SocketFile::of(path).map_err(refused)?; // removed if what follows fails
    // Nobody can connect before it listens, so mode and group count for the first connection too.
    if let Some((group, id)) = group {
        std::os::unix::fs::chown(path, None, Some(id)).map_err(|error| {
            failed(
                &format!("cannot hand it to the group {group}, {error}"),
                "add the worker's user to that group, or start the worker as root".into(),
            )
        })?;
    }
    let mode = std::fs::Permissions::from_mode(access.mode.unwrap_or(0o660));
    std::fs::set_permissions(path, mode).map_err(refused)?;
    socket.listen(BACKLOG).map_err(refused)?;
    Ok(Listener::Unix(socket, file))
}

/// The number of a group that is given by name or number.
fn group_id(group: &str) -> Result<u32, String> {
    match Group::from_name(group) {
        Ok(Some(found)) => Ok(found.gid.as_raw()),
        Ok(None) => match group.parse().map(Gid::from_raw) {
            Ok(id) => Ok(id.as_raw()),
            Err(_) => Err(format!("there is no group {group}")),
        },
        Err(error) => Err(format!("cannot look up the group {group}, {error}")),
    }
}

/// Removes a socket whose process is gone. Refuses one in use, and any other file, with a hint.
fn remove_left_over(path: &Path) -> Result<(), (String, &'static str)> {
    let Ok(found) = path.symlink_metadata() else { return Ok(()) }; // bind reports what else is wrong
    if !found.file_type().is_socket() {
        return Err(("a file that is not a socket is in its place".into(), "use another path, or remove the file"));
    }
    match connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(|error| {
            (format!("the socket of a process that has ended cannot be removed, {error}"), "remove it")
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(("a socket of another user is in its place".into(), "use another path, or remove the socket"))
        }
        // A full queue, or a socket of another type.
        _ => Err(("another process listens on it".into(), "stop that process, or use another path")),
    }
}

/// Without waiting for room in the queue of a process that hangs.
fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::AGAIN) => Ok(()),
        result => result,
    }
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    path.symlink_metadata().map(|found| (found.dev(), found.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
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
