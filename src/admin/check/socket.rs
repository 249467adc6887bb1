//! The socket of the worker, which systemd, spawn-fcgi or the worker itself creates. Touches the file system and the
//! kernel's list of sockets, reading only: a connection would start the worker.

use crate::admin::check::result::Verdict;
use nix::unistd::{Gid, Group, Uid, User, geteuid};
use rustix::fs::{Access, access};
use std::fs::{self, Metadata};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Flag of a socket that listens, in `/proc/net/unix`.
const ACCEPTS_CONNECTIONS: u32 = 0x1_0000;

/// Whether a process listens on it, or the worker can create it. The web server has to be able to open it, of which it
/// reports only that it cannot; the user of the worker need not be.
pub fn check(path: &Path, is_user_of_worker: bool) -> Verdict {
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
        return Verdict::fail(format!("{name} is not a socket"), format!("rm {name}, or correct CALLSTATS_SOCKET"));
    }
    if !is_listening(path) {
        return match missing(path) {
            Verdict::Pass(message) => Verdict::warn(message, "start the worker, which replaces it"),
            verdict => verdict,
        };
    }
    match access(path, Access::WRITE_OK) {
        Ok(()) => Verdict::Pass(format!("a process listens on {name}")),
        Err(_) if is_user_of_worker => {
            Verdict::Pass(format!("a process listens on {name}; it is for {}", owners(&metadata)))
        }
        Err(error) => Verdict::fail(
            format!("user {} may not open {name}: {}; it is for {}", user(), Error::from(error), owners(&metadata)),
            "give the socket the group of the web server: SocketGroup= and SocketMode=0660 in the systemd unit, \
             --listen-group and --listen-mode, or -G and -M of spawn-fcgi",
        ),
    }
}

/// A worker can create it if it can write to the folder.
fn missing(path: &Path) -> Verdict {
    let name = path.display();
    match access(path.parent().unwrap_or(path), Access::WRITE_OK) {
        Ok(()) => Verdict::Pass(format!("no process listens on {name}, which can be created")),
        Err(error) => Verdict::fail(
            format!("no process listens on {name}, and user {} cannot create it: {}", user(), Error::from(error)),
            "systemctl enable --now callstats.socket; without systemd, create its folder, owned by the worker's user",
        ),
    }
}

/// Who may open it.
fn owners(metadata: &Metadata) -> String {
    let group = Group::from_gid(Gid::from_raw(metadata.gid())).ok().flatten();
    let group = group.map_or_else(|| metadata.gid().to_string(), |group| group.name);
    let mode = metadata.mode() & 0o777;
    format!("user {} and group {group} (mode {mode:04o})", user_name(Uid::from_raw(metadata.uid())))
}

/// Who runs this.
fn user() -> String {
    user_name(geteuid())
}

fn user_name(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

fn is_listening(path: &Path) -> bool {
    let table = fs::read("/proc/net/unix").unwrap_or_default();
    let real = path.canonicalize().ok();
    String::from_utf8_lossy(&table)
        .lines()
        .filter_map(listener)
        .any(|other| Path::new(other) == path || (real.is_some() && Path::new(other).canonicalize().ok() == real))
}

/// The path of a listening socket in a line of `/proc/net/unix`: number, references, protocol, flags, type, state,
/// inode, path.
fn listener(line: &str) -> Option<&str> {
    let mut rest = line;
    let mut flags = "";
    for number in 0..7 {
        let (field, behind) = rest.trim_start().split_once(' ')?;
        if number == 3 {
            flags = field;
        }
        rest = behind;
    }
    let listens = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & ACCEPTS_CONNECTIONS != 0);
    (listens && rest.starts_with('/')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_found_among_sockets() {
        let line = |flags, path: &str| format!("0000000000000000: 00000002 00000000 {flags} 0001 01  1234 {path}");
        assert_eq!(listener(&line("00010000", "/run/a b.sock")), Some("/run/a b.sock"));
        assert_eq!(listener(&line("00000000", "/run/a")), None);
        assert_eq!(listener(&line("00010000", "@abstract")), None);
        assert_eq!(listener("Num       RefCount Protocol Flags    Type St Inode Path"), None);
        assert_eq!(listener("0000000000000000: 00000003 00000000 00000000 0001 03 15094"), None);
    }
}
