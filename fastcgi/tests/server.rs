//! What 1.1.0 adds: bytes, limits, ends without an end, writes that never wait, peers that leave, a drain.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a test may stop at the first surprise

mod support;

use fastcgi::protocol::kind;
use fastcgi::{Options, Request, Server};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, mpsc};
use std::time::{Duration, Instant};
use support::{Client, begin, params, request, shared, start, stream, wait_until};

fn answer_ok(mut request: Request) {
    request.stdout().write_all(b"ok").unwrap();
}

#[test]
fn parameters_are_bytes_in_their_order() {
    let server = start(Options::default(), |mut request| {
        let all: Vec<u8> =
            request.parameters().iter().flat_map(|(name, value)| [name, b"=", value, b";"].concat()).collect();
        let last = request.parameters().get("A").unwrap_or_default().to_vec();
        assert_eq!(request.param("B"), None);
        request.stdout().write_all(&[all, last].concat()).unwrap();
    });
    let mut client = server.connect();
    client.send(&request(false, &[("A", b"1"), ("B", b"caf\xe9"), ("", b""), ("A", b"2")], b""));
    assert_eq!(client.receive().stdout, b"A=1;B=caf\xe9;=;A=2;2");
}

#[test]
fn large_answers_arrive_whole_in_large_records() {
    let server = start(Options::default(), |mut request| {
        let bytes: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
        for part in bytes.chunks(777) {
            request.stdout().write_all(part).unwrap();
        }
    });
    let mut client = server.connect();
    client.send(&request(true, &[], b""));
    let (mut all, mut sizes) = (Vec::new(), Vec::new());
    while let Some((kind::STDOUT, content)) = client.record() {
        sizes.push(content.len());
        all.extend(content);
    }
    assert_eq!(all, (0..1_000_000u32).map(|n| n as u8).collect::<Vec<_>>());
    assert_eq!(sizes.len(), 1_000_000usize.div_ceil(65_528) + 1);
    client.send(&request(false, &[], b""));
    assert_eq!(client.receive().stdout.len(), 1_000_000);
}

#[test]
fn close_ends_without_end_request_and_without_what_was_not_sent() {
    let server = start(Options::default(), |mut request| {
        let wanted = request.param("SEND").unwrap();
        request.stdout().write_all(b"half").unwrap();
        if wanted == "flushed" {
            request.stdout().flush().unwrap();
        }
        request.close();
    });
    for (wanted, sent) in [("flushed", &b"half"[..]), ("not", b"")] {
        let mut client = server.connect();
        client.send(&request(true, &[("SEND", wanted.as_bytes())], b""));
        let answer = client.receive();
        assert_eq!((&answer.stdout[..], answer.end), (sent, None));
        assert!(client.is_closed());
    }
}

#[test]
fn a_panic_of_the_handler_ends_its_connection_alone() {
    let server = start(Options::default(), |mut request| {
        request.stdout().write_all(b"half").unwrap();
        assert!(request.param("PANIC").is_none(), "this panic is part of a test");
    });
    let mut other = server.connect();
    other.send(&request(true, &[], b""));
    assert_eq!(other.receive().end, Some((0, 0)));
    let mut client = server.connect();
    client.send(&request(true, &[("PANIC", b"")], b""));
    assert_eq!(client.receive(), support::Answer::default());
    other.send(&request(true, &[], b""));
    assert_eq!(other.receive().end, Some((0, 0)));
}

#[test]
fn refusals_have_their_protocol_status() {
    let server = start(Options::default(), |request| match request.param("REFUSE").as_deref() {
        Some("role") => request.refuse_role(),
        _ => request.refuse_overloaded(),
    });
    let mut client = server.connect();
    for (wanted, status) in [("role", 3), ("load", 2)] {
        client.send(&request(true, &[("REFUSE", wanted.as_bytes())], b"unread"));
        assert_eq!(client.receive().end, Some((0, status)));
    }
}

#[test]
fn input_that_nobody_read_disturbs_neither_the_answer_nor_the_next_request() {
    let server = start(Options::default(), answer_ok);
    let mut client = server.connect();
    for keep in [true, true, false] {
        let sending = client.stream.try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            let _ = (&sending).write_all(&request(keep, &[], &vec![b'x'; 400_000]));
        });
        let answer = client.receive();
        assert_eq!((&answer.stdout[..], answer.end), (&b"ok"[..], Some((0, 0))));
        sender.join().unwrap();
    }
}

#[test]
fn try_write_never_waits_and_loses_nothing() {
    let (sent, received) = mpsc::channel();
    let sent = Mutex::new(sent);
    let server = start(Options::default(), move |mut request| {
        let bytes: Vec<u8> = (0..40_000u32).map(|n| n as u8).collect();
        let began = Instant::now();
        let (mut taken, mut out) = (0, request.stdout());
        loop {
            match out.try_write(&bytes[taken % bytes.len()..]) {
                Ok(count) => taken += count,
                Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            assert!(out.buffered_bytes() <= 2 * 65_536 + 1000);
        }
        assert!(began.elapsed() < Duration::from_secs(2));
        sent.lock().unwrap().send(taken).unwrap();
        out.write_all(b"the end").unwrap();
    });
    let mut client = server.connect();
    client.send(&request(false, &[], b""));
    let taken = received.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(taken > 100_000);
    let answer = client.receive();
    let expected = (0..taken).map(|n| (n % 40_000) as u8).chain(*b"the end").collect::<Vec<_>>();
    assert!(answer.stdout == expected);
    assert_eq!(answer.end, Some((0, 0)));
}

#[test]
fn short_answers_by_try_write_leave_in_one_piece() {
    let server = start(Options::default(), |mut request| {
        for _ in 0..10 {
            assert_eq!(request.stdout().try_write(b"0123456789").unwrap(), 10);
        }
    });
    let mut client = server.connect();
    client.send(&request(true, &[], b""));
    assert_eq!(client.record(), Some((kind::STDOUT, b"0123456789".repeat(10))));
    assert_eq!(client.record(), Some((kind::STDOUT, Vec::new())));
}

#[test]
fn a_peer_that_takes_nothing_is_given_up() {
    let (errors, seen) = mpsc::channel();
    let errors = Mutex::new(errors);
    let options = Options { send_timeout: Duration::from_millis(200), ..Options::default() };
    let server = start(options, move |mut request| {
        let error = request.stdout().write_all(&vec![0; 10_000_000]).unwrap_err();
        assert_eq!(request.stdout().write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        errors.lock().unwrap().send(error.kind()).unwrap();
    });
    let mut client = server.connect();
    client.send(&request(true, &[], b""));
    assert_eq!(seen.recv_timeout(Duration::from_secs(10)).unwrap(), ErrorKind::TimedOut);
    assert_eq!(client.receive().end, None);
}

#[test]
fn a_slow_reader_is_not_given_up() {
    let options = Options { send_timeout: Duration::from_millis(500), ..Options::default() };
    let server = start(options, |mut request| {
        let _ = request.stdout().write_all(&vec![b'x'; 1_500_000]);
    });
    let mut client = server.connect();
    client.send(&request(false, &[], b""));
    let (mut all, mut part, began) = (0, [0; 20_000], Instant::now());
    while let Ok(count @ 1..) = client.stream.read(&mut part) {
        all += count;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(all > 1_500_000, "{all} bytes");
    assert!(began.elapsed() > Duration::from_millis(1000));
}

#[test]
fn requests_that_do_not_arrive_are_given_up() {
    let options = Options { request_timeout: Duration::from_millis(200), ..Options::default() };
    let server = start(options, |mut request| {
        let mut body = Vec::new();
        let result = request.stdin().read_to_end(&mut body);
        assert!(result.is_err() || body == b"x");
        let _ = request.stdout().write_all(&body);
    });
    let whole = request(true, &[("A", b"b")], b"x");
    for bytes in 1..whole.len() {
        let mut client = server.connect();
        client.send(&whole[..bytes]);
        if bytes == whole.len() - 1 {
            assert_eq!(client.receive(), support::Answer::default());
        }
    }
    let mut slow = server.connect();
    let began = Instant::now();
    for byte in &whole {
        if slow.stream.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(slow.is_closed());
    assert!(began.elapsed() < Duration::from_secs(5));
    let mut client = server.connect();
    client.send(&whole);
    assert_eq!(client.receive().stdout, b"x");
    std::thread::sleep(Duration::from_millis(400)); // an idle connection stays
    client.send(&whole);
    assert_eq!(client.receive().stdout, b"x");
}

#[test]
fn idle_connections_end_only_by_the_option() {
    let options = Options { idle_timeout: Some(Duration::from_millis(200)), ..Options::default() };
    let server = start(options, answer_ok);
    let (mut fresh, mut kept) = (server.connect(), server.connect());
    kept.send(&request(true, &[], b""));
    assert_eq!(kept.receive().stdout, b"ok");
    assert!(kept.is_closed() && fresh.is_closed());
}

#[test]
fn too_many_bytes_of_parameters_end_the_connection() {
    let options = Options { max_params_bytes: 1000, ..Options::default() };
    let server = start(options, answer_ok);
    for (bytes, end) in [(996, Some((0, 0))), (997, None)] {
        let mut client = server.connect();
        let mut sent = begin(1, false);
        sent.extend(params(&[("", &vec![b'x'; bytes - 1])]));
        client.send(&sent);
        assert_eq!(client.receive().end, end, "{bytes}");
    }
}

#[test]
fn connections_beyond_the_limit_wait() {
    let options = Options { max_connections: 2, ..Options::default() };
    let server = start(options, answer_ok);
    let mut clients: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(&request(true, &[], b""));
        assert_eq!(client.receive().stdout, b"ok");
    }
    let mut third = server.connect();
    third.send(&request(false, &[], b""));
    third.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert_eq!(third.stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    third.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    clients.pop();
    assert_eq!(third.receive().stdout, b"ok");
}

/// Runs until the peer has left, and counts.
fn watching(counter: &std::sync::Arc<AtomicUsize>) -> impl Fn(Request) + Send + Sync + use<> {
    let counter = counter.clone();
    move |mut request: Request| {
        let (gone, seen) = shared(AtomicBool::new(false));
        if request.param("READ").is_some() {
            request.stdin().read_to_end(&mut Vec::new()).unwrap();
        }
        let guard = request.on_disconnect(Box::new(move || gone.store(true, Ordering::SeqCst)));
        wait_until("the peer leaves", || seen.load(Ordering::SeqCst));
        counter.fetch_add(1, Ordering::SeqCst);
        drop(guard);
    }
}

#[test]
fn peers_that_leave_are_noticed() {
    let (counter, counted) = shared(AtomicUsize::new(0));
    let server = start(Options::default(), watching(&counter));
    let abort = {
        let mut out = Vec::new();
        fastcgi::protocol::push_record(&mut out, kind::ABORT_REQUEST, 1, &[]);
        out
    };
    let half = [begin(1, true), params(&[])].concat();
    let cases: [(Vec<u8>, &[u8]); 6] = [
        (request(true, &[], b""), b""),
        (request(true, &[], &[b'x'; 9000]), b""),
        (request(true, &[("READ", b"")], &[b'x'; 9000]), b""),
        (half.clone(), &abort),
        (request(true, &[], &[b'x'; 9000]), &abort),
        ([&half[..], &abort].concat(), b""),
    ];
    for (at, (sent, then)) in cases.into_iter().enumerate() {
        let mut client = server.connect();
        client.send(&sent);
        std::thread::sleep(Duration::from_millis(if at % 2 == 0 { 5 } else { 400 }));
        assert_eq!(counted.load(Ordering::SeqCst), if at == 5 { 6 } else { at }, "too early in case {at}");
        let began = Instant::now();
        client.send(then);
        let kept = if then.is_empty() {
            drop(client);
            None
        } else {
            Some(client)
        };
        wait_until("the action", || counted.load(Ordering::SeqCst) == at + 1);
        assert!(began.elapsed() < Duration::from_secs(1), "case {at} took {:?}", began.elapsed());
        drop(kept);
    }
}

#[test]
fn peers_that_leave_are_noticed_over_tcp() {
    let (counter, counted) = shared(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || fastcgi::run_tcp(watching(&counter), &listener));
    for body in [&b""[..], &[b'x'; 9000]] {
        let mut client = Client { stream: TcpStream::connect(address).unwrap() };
        client.send(&request(true, &[], body));
        drop(client);
    }
    wait_until("both", || counted.load(Ordering::SeqCst) == 2);
}

#[test]
fn who_half_closes_a_unix_socket_still_gets_an_answer() {
    let (called, was_called) = shared(AtomicBool::new(false));
    let server = start(Options::default(), move |mut request| {
        let called = called.clone();
        let guard = request.on_disconnect(Box::new(move || called.store(true, Ordering::SeqCst)));
        std::thread::sleep(Duration::from_millis(700));
        drop(guard);
        request.stdout().write_all(b"ok").unwrap();
    });
    let mut client = server.connect();
    client.send(&request(true, &[], b""));
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.receive().stdout, b"ok");
    assert!(!was_called.load(Ordering::SeqCst));
}

#[test]
fn after_its_guard_an_action_never_runs() {
    let (running, is_running) = shared(AtomicUsize::new(0));
    let (late, was_late) = shared(AtomicUsize::new(0));
    let server = start(Options::default(), move |request| {
        let (over, is_over) = shared(AtomicBool::new(false));
        let (running, late) = (running.clone(), late.clone());
        let guard = request.on_disconnect(Box::new(move || {
            std::thread::sleep(Duration::from_millis(50));
            running.fetch_add(1, Ordering::SeqCst);
            late.fetch_add(usize::from(is_over.load(Ordering::SeqCst)), Ordering::SeqCst);
        }));
        std::thread::sleep(Duration::from_millis(300));
        drop(guard);
        over.store(true, Ordering::SeqCst);
    });
    let began = Instant::now();
    let clients: Vec<_> = (0..20)
        .map(|at| {
            let path = server.path.clone();
            std::thread::spawn(move || {
                let mut client = Client { stream: std::os::unix::net::UnixStream::connect(path).unwrap() };
                client.send(&request(true, &[], b""));
                std::thread::sleep(Duration::from_millis(270 + at * 2));
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    std::thread::sleep(Duration::from_millis(500).saturating_sub(began.elapsed()));
    assert_eq!(was_late.load(Ordering::SeqCst), 0);
    println!("{} of 20 ran", is_running.load(Ordering::SeqCst));
}

#[test]
fn a_drain_finishes_what_is_in_flight_and_what_waits() {
    let (gate, open) = shared(Barrier::new(2));
    let mut server = start(Options::default(), move |mut request| {
        if request.param("WAIT").is_some() {
            gate.wait();
            gate.wait();
        }
        request.stdout().write_all(b"ok").unwrap();
    });
    let (mut working, mut idle) = (server.connect(), server.connect());
    idle.send(&request(true, &[], b""));
    idle.receive();
    working.send(&request(true, &[("WAIT", b"")], b""));
    open.wait();
    let stopping = std::thread::spawn(move || (server.stop(), server));
    std::thread::sleep(Duration::from_millis(200));
    open.wait();
    assert_eq!(working.receive().stdout, b"ok");
    assert!(working.is_closed() && idle.is_closed());
    assert_eq!(stopping.join().unwrap().0, 0);
}

#[test]
fn a_listening_socket_that_becomes_blocking_does_no_harm() {
    let path = std::env::temp_dir().join(format!("fastcgi-blocking-{}", std::process::id()));
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let shared_one = listener.try_clone().unwrap();
    let (stop, stopped) = std::os::unix::net::UnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || {
        let server = Server::new(Options::default(), answer_ok);
        server.serve(listener.as_fd(), &[stopped.as_fd()], |_| ControlFlow::Break(())).unwrap();
    });
    for _ in 0..20 {
        shared_one.set_nonblocking(false).unwrap();
        let mut client = Client { stream: std::os::unix::net::UnixStream::connect(&path).unwrap() };
        client.send(&request(false, &[], b""));
        assert_eq!(client.receive().stdout, b"ok");
    }
    shared_one.set_nonblocking(false).unwrap();
    let began = Instant::now();
    (&stop).write_all(b"x").unwrap();
    thread.join().unwrap();
    assert!(began.elapsed() < Duration::from_secs(2));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn only_allowed_peers_are_served_and_others_block_nobody() {
    for (allowed, is_served) in [("127.0.0.1, ::1", true), ("::1", false), ("192.0.2.1", false)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let options = Options { allowed_peers: allowed.parse().unwrap(), ..Options::default() };
        std::thread::spawn(move || {
            let server = Server::new(options, answer_ok);
            server.serve(listener.as_fd(), &[], |_| ControlFlow::Continue(()))
        });
        let silent: Vec<_> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut client = Client { stream: TcpStream::connect(address).unwrap() };
        let _ = client.stream.write_all(&request(false, &[], b""));
        assert_eq!(client.receive().end.is_some(), is_served, "{allowed}");
        drop(silent);
    }
}

#[test]
fn streams_end_as_the_protocol_has_it() {
    let server = start(Options::default(), |mut request| {
        request.stderr().write_all(b"e").unwrap();
        request.stdout().write_all(b"o").unwrap();
    });
    let mut client = server.connect();
    client.send(&[begin(1, false), params(&[]), stream(kind::STDIN, b"")].concat());
    let records: Vec<_> = std::iter::from_fn(|| client.record()).collect();
    let kinds: Vec<_> = records.iter().map(|(kind, content)| (*kind, content.len())).collect();
    assert_eq!(kinds, [(7, 1), (6, 1), (6, 0), (7, 0), (3, 8)]);
}
