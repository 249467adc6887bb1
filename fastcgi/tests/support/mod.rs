//! Servers on sockets of their own, and a client.

#![allow(dead_code, missing_docs)] // each test file uses a part of it

use fastcgi::protocol::{HEADER_BYTES, Header, KEEP_CONNECTION, kind, push_pair, push_record};
use fastcgi::{Options, Request, Server};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub struct Running {
    pub path: PathBuf,
    stop: UnixStream,
    thread: Option<JoinHandle<usize>>,
}

/// Serves on a Unix socket until it is dropped.
pub fn start(options: Options, handler: impl Fn(Request) + Send + Sync + 'static) -> Running {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("fastcgi-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
    let path = std::env::temp_dir().join(name);
    let listener = UnixListener::bind(&path).unwrap();
    let (stop, told_to_stop) = UnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || {
        let server = Server::new(options, handler);
        server.serve(listener.as_fd(), &[told_to_stop.as_fd()], |_| ControlFlow::Break(())).unwrap();
        server.shut_down(listener.as_fd(), Duration::from_secs(5))
    });
    Running { path, stop, thread: Some(thread) }
}

impl Running {
    pub fn connect(&self) -> Client<UnixStream> {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { stream }
    }

    /// Returns how many requests were not finished.
    pub fn stop(&mut self) -> usize {
        let _ = self.stop.write_all(b"x");
        self.thread.take().map_or(0, |thread| thread.join().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_file(&self.path);
    }
}

pub struct Client<S> {
    pub stream: S,
}

#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Application and protocol status; none: the connection ended before.
    pub end: Option<(u32, u8)>,
}

pub fn begin(role: u8, keep: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let flags = if keep { KEEP_CONNECTION } else { 0 };
    push_record(&mut out, kind::BEGIN_REQUEST, 1, &[0, role, flags, 0, 0, 0, 0, 0]);
    out
}

pub fn stream(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in content.chunks(60_000) {
        push_record(&mut out, kind, 1, part);
    }
    push_record(&mut out, kind, 1, &[]);
    out
}

pub fn params(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in pairs {
        push_pair(&mut out, name.as_bytes(), value);
    }
    stream(kind::PARAMS, &out)
}

pub fn request(keep: bool, pairs: &[(&str, &[u8])], body: &[u8]) -> Vec<u8> {
    [begin(1, keep), params(pairs), stream(kind::STDIN, body)].concat()
}

impl<S: Read + Write> Client<S> {
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn record(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header).ok()?;
        let header = Header::decode(header).unwrap();
        let mut content = vec![0; usize::from(header.content_bytes) + usize::from(header.padding_bytes)];
        self.stream.read_exact(&mut content).ok()?;
        content.truncate(header.content_bytes.into());
        Some((header.kind, content))
    }

    pub fn receive(&mut self) -> Answer {
        let mut answer = Answer::default();
        while let Some((kind, content)) = self.record() {
            match kind {
                kind::STDOUT => answer.stdout.extend(content),
                kind::STDERR => answer.stderr.extend(content),
                kind::END_REQUEST => {
                    let status = u32::from_be_bytes(*content.first_chunk().unwrap());
                    answer.end = Some((status, content[4]));
                    break;
                }
                other => panic!("a record of type {other}"),
            }
        }
        answer
    }

    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }
}

pub fn wait_until(what: &str, mut state: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !state() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn shared<T>(value: T) -> (Arc<T>, Arc<T>) {
    let value = Arc::new(value);
    (value.clone(), value)
}
