//! A program that was written for `fastcgi` 1.0.0, by its documentation.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a test may stop at the first surprise

mod support;

use std::collections::HashMap;
use std::io::{BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::io::AsRawFd;
use support::{Client, begin, params, request, stream};

fn application(mut request: fastcgi::Request) {
    let role: fastcgi::Role = request.role();
    match role {
        fastcgi::Role::Responder => {
            let method: Option<String> = request.param("REQUEST_METHOD");
            let all: HashMap<String, String> = {
                let params: fastcgi::Params = request.params();
                params.collect()
            };
            let mut body = String::new();
            request.stdin().read_to_string(&mut body).unwrap();
            let is_aborted: bool = request.is_aborted();
            write!(&mut request.stdout(), "{method:?} {} {body} {is_aborted}", all.len()).unwrap();
            write!(&mut request.stderr(), "a warning").unwrap();
            request.exit(7);
        }
        fastcgi::Role::Filter => {
            let (mut body, mut file) = (Vec::new(), String::new());
            {
                let mut stdin: fastcgi::Stdin = request.stdin();
                stdin.read_to_end(&mut body).unwrap();
                stdin.start_filter_data();
                stdin.read_line(&mut file).unwrap();
            }
            let mut stdout: fastcgi::Stdout = request.stdout();
            stdout.write_all(&body).unwrap();
            stdout.write_all(file.to_uppercase().as_bytes()).unwrap();
        }
        fastcgi::Role::Authorizer => {
            let mut stderr: fastcgi::Stderr = request.stderr();
            stderr.write_all(b"no").unwrap();
        }
    }
}

fn check(address: std::net::SocketAddr) {
    let connect = || Client { stream: TcpStream::connect(address).unwrap() };
    let mut client = connect();
    for _ in 0..3 {
        client.send(&request(true, &[("REQUEST_METHOD", b"POST"), ("A", b"b"), ("BYTES", b"\xff")], b"the body"));
        let answer = client.receive();
        assert_eq!(String::from_utf8(answer.stdout).unwrap(), "Some(\"POST\") 2 the body false");
        assert_eq!((&answer.stderr[..], answer.end), (&b"a warning"[..], Some((7, 0))));
    }
    let mut client = connect();
    client.send(&[begin(3, false), params(&[]), stream(5, b"body "), stream(8, b"file\n")].concat());
    let answer = client.receive();
    assert_eq!((&answer.stdout[..], answer.end), (&b"body FILE\n"[..], Some((0, 0))));
    assert!(client.is_closed());
    let mut client = connect();
    client.send(&[begin(2, false), params(&[])].concat());
    assert_eq!(client.receive().stderr, b"no");
}

#[test]
fn by_run_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || fastcgi::run_tcp(application, &listener));
    check(address);
}

#[test]
fn by_run_raw() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || fastcgi::run_raw(application, listener.as_raw_fd()));
    check(address);
}

#[test]
fn a_descriptor_that_does_not_listen_is_an_error() {
    fastcgi::run_raw(application, -1);
    fastcgi::run_raw(application, 1_000_000);
    fastcgi::run_raw(application, std::fs::File::open("/dev/null").unwrap().as_raw_fd());
}

/// Not called: there is no listening socket on descriptor 0 of a test.
#[allow(dead_code)]
fn by_run() {
    fastcgi::run(|mut req| {
        write!(&mut req.stdout(), "Content-Type: text/plain\n\nHello, world!").unwrap_or(());
    });
}
