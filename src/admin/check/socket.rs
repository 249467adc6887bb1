//! Whether this user can open the socket of the worker, or create it: a web server reports only that it cannot. Touches
//! the socket, which it opens and closes.

use crate::admin::check::result::Verdict;
use nix::unistd::{Gid, Group, Uid, User};
use rustix::fs::{Access, access};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

pub fn check(path: &Path) -> Verdict {
    let name = path.display();
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return missing(path),
        Err(error) => {
            let fix = format!("let user {} enter the folders above it (chmod o+x, or usermod -aG their group)", user());
            return Verdict::fail(format!("{name}: {error}"), fix);
        }
    };
    if !metadata.file_type().is_socket() {
        let message = format!("{name} is a file that is not a socket");
        return Verdict::fail(message, "use another path, or remove the file");
    }
    match connect(path) {
        Ok(()) => Verdict::Pass(format!("{name} is writable, and a worker listens")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Verdict::warn(
            format!("{name} is the socket of a process that has ended: {error}"),
            "start the worker, which replaces it",
        ),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let (mode, owner, group) = (metadata.mode() & 0o777, metadata.uid(), metadata.gid());
            let group = Group::from_gid(Gid::from_raw(group)).ok().flatten().map_or(group.to_string(), |it| it.name);
            let message = format!(
                "user {} may not open {name}: {error}; it has mode {mode:04o}, user {} and group {group}",
                user(),
                user_name(Uid::from_raw(owner))
            );
            let fix = "give the socket the group of the web server: SocketGroup= and SocketMode=0660 in the systemd unit, \
                       --listen-group and --listen-mode, or -G and -M of spawn-fcgi";
            Verdict::fail(message, fix)
        }
        Err(error) => Verdict::fail(format!("{name}: {error}"), "start the worker"),
    }
}

/// A worker can create it if it can write to the folder.
fn missing(path: &Path) -> Verdict {
    let name = path.display();
    match access(path.parent().unwrap_or(path), Access::WRITE_OK) {
        Ok(()) => Verdict::Pass(format!("{name} is writable: it does not exist yet")),
        Err(error) => Verdict::fail(
            format!("{name} does not exist, and user {} cannot create it: {}", user(), io::Error::from(error)),
            "start the worker, or create its folder, owned by the worker's user",
        ),
    }
}

/// Without waiting: a queue that is full is a worker's.
fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        result => result,
    }
}

/// Who runs this.
fn user() -> String {
    user_name(nix::unistd::geteuid())
}

fn user_name(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}
