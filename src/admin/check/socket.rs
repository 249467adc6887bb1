//! The socket of the worker, which systemd, spawn-fcgi or the worker itself creates. Touches the file system and the
//! kernel's list of sockets, reading only: a connection would start the worker.

use super::result::Verdict;
use rustix::fs::{Access, access};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Flag of a socket that listens, in `/proc/net/unix`.
const ACCEPTS_CONNECTIONS: u32 = 0x1_0000;

/// Whether a process listens on it, or the worker can create it.
pub fn check(path: &Path) -> Verdict {
    let name = path.display();
    match path.metadata() {
        // The web server's alone, as a rule: the worker's user need not be able to connect.
        Ok(metadata) if metadata.file_type().is_socket() && is_listening(path) => {
            Verdict::Pass(format!("a process listens on {name}"))
        }
        // Left behind: whoever creates it replaces it.
        Ok(metadata) if metadata.file_type().is_socket() => can_be_created(path),
        Ok(_) => Verdict::fail(format!("{name} is not a socket"), format!("rm {name}, or correct CALLSTATS_SOCKET")),
        Err(error) if error.kind() == ErrorKind::NotFound => can_be_created(path),
        Err(error) => Verdict::fail(format!("{name}: {error}"), "let the worker's user search its folder"),
    }
}

fn can_be_created(path: &Path) -> Verdict {
    let name = path.display();
    match access(path.parent().unwrap_or(path), Access::WRITE_OK) {
        Ok(()) => Verdict::Pass(format!("no process listens on {name}, which can be created")),
        Err(error) => Verdict::fail(
            format!("no process listens on {name}, and it cannot be created: {error}"),
            "systemctl enable --now callstats.socket; without systemd, create its folder, owned by the worker's user",
        ),
    }
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
