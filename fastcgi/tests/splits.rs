//! However the bytes of a connection are cut into portions, they mean the same.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a test may stop at the first surprise

use fastcgi::Role;
use fastcgi::parser::{Event, Head, Limits, Parser};
use fastcgi::protocol::{KEEP_CONNECTION, ProtocolError, kind, push_pair, push_record};
use proptest::prelude::*;

/// What happened on a connection, with streams put together again.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    heads: Vec<Head>,
    stdin: Vec<u8>,
    data: Vec<u8>,
    ends: Vec<&'static str>,
    replies: Vec<u8>,
    error: Option<ProtocolError>,
}

fn feed<'a>(portions: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let mut parser = Parser::new(Limits { max_params_bytes: 10_000, max_connections: 100 });
    let mut seen = Seen::default();
    for mut portion in portions {
        loop {
            match parser.next(&mut portion) {
                Ok(None) => break,
                Ok(Some(Event::Request(head))) => seen.heads.push(head),
                Ok(Some(Event::Stdin(bytes))) => seen.stdin.extend_from_slice(bytes),
                Ok(Some(Event::Data(bytes))) => seen.data.extend_from_slice(bytes),
                Ok(Some(Event::StdinEnd)) => {
                    seen.ends.push("stdin");
                    parser.end(); // as an application that answers at the end of the input
                }
                Ok(Some(Event::DataEnd)) => seen.ends.push("data"),
                Ok(Some(Event::Abort)) => {
                    seen.ends.push("abort");
                    parser.end();
                }
                Ok(Some(Event::Reply { bytes, is_last })) => {
                    seen.replies.extend(bytes);
                    seen.ends.push(if is_last { "last reply" } else { "reply" });
                }
                Err(error) => {
                    seen.error = Some(error);
                    return seen;
                }
            }
        }
        assert!(portion.is_empty(), "all is used up before more is asked for");
    }
    seen
}

fn begin(out: &mut Vec<u8>, request_id: u16, role: u8, keep: bool) {
    let flags = if keep { KEEP_CONNECTION } else { 0 };
    push_record(out, kind::BEGIN_REQUEST, request_id, &[0, role, flags, 0, 0, 0, 0, 0]);
}

fn stream(out: &mut Vec<u8>, kind: u8, request_id: u16, content: &[u8], size: usize) {
    for part in content.chunks(size) {
        push_record(out, kind, request_id, part);
    }
    push_record(out, kind, request_id, &[]);
}

fn request(out: &mut Vec<u8>, request_id: u16, body: &[u8], size: usize) {
    let mut params = Vec::new();
    for (name, value) in [(&b"REQUEST_METHOD"[..], &b"GET"[..]), (b"caf\xe9", b"\xff"), (b"LONG", &[b'x'; 300])] {
        push_pair(&mut params, name, value);
    }
    begin(out, request_id, 1, true);
    stream(out, kind::PARAMS, request_id, &params, size);
    stream(out, kind::STDIN, request_id, body, size);
}

/// Recordings of what web servers send, and of what they should not.
fn recordings() -> Vec<Vec<u8>> {
    let mut kept = Vec::new();
    request(&mut kept, 1, b"", 1000);
    request(&mut kept, 1, b"a body", 4);
    request(&mut kept, 7, &[b'b'; 3000], 100);

    let mut managed = Vec::new();
    let mut names = Vec::new();
    push_pair(&mut names, b"FCGI_MAX_CONNS", b"");
    push_pair(&mut names, b"FCGI_MPXS_CONNS", b"");
    push_record(&mut managed, kind::GET_VALUES, 0, &names);
    push_record(&mut managed, 99, 0, b"?");
    begin(&mut managed, 1, 1, true);
    begin(&mut managed, 2, 1, true);
    push_record(&mut managed, kind::ABORT_REQUEST, 1, &[]);
    begin(&mut managed, 3, 9, true);
    request(&mut managed, 3, b"x", 1);

    let mut filter = Vec::new();
    begin(&mut filter, 5, 3, false);
    stream(&mut filter, kind::PARAMS, 5, b"\x01\x01AB", 1);
    stream(&mut filter, kind::DATA, 5, b"the file", 3);
    stream(&mut filter, kind::STDIN, 5, b"the body", 3);

    let mut aborted = Vec::new();
    begin(&mut aborted, 1, 1, true);
    stream(&mut aborted, kind::PARAMS, 1, b"", 1);
    push_record(&mut aborted, kind::STDIN, 1, b"half");
    push_record(&mut aborted, kind::ABORT_REQUEST, 1, &[]);
    request(&mut aborted, 1, b"", 10);

    let mut too_long = Vec::new();
    begin(&mut too_long, 1, 1, true);
    stream(&mut too_long, kind::PARAMS, 1, &[0; 10_002], 999);

    let mut lying = Vec::new();
    begin(&mut lying, 1, 1, true);
    stream(&mut lying, kind::PARAMS, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff", 3);

    vec![kept, managed, filter, aborted, too_long, lying, b"GET / HTTP/1.1\r\n\r\n".to_vec()]
}

#[test]
fn recordings_are_understood() {
    let seen: Vec<_> = recordings().iter().map(|recording| feed([&recording[..]])).collect();
    assert_eq!(seen[0].heads.len(), 3);
    assert_eq!(seen[0].heads[1].parameters.iter().count(), 3);
    assert_eq!(seen[0].heads[1].parameters.get("caf\u{fffd}"), None);
    assert_eq!(seen[0].heads[1].parameters.get(b"caf\xe9"), Some(&b"\xff"[..]));
    assert_eq!(seen[0].stdin.len(), 3006);
    assert_eq!(seen[1].ends, ["reply", "reply", "reply", "reply", "reply", "stdin"]);
    assert_eq!(seen[1].heads.len(), 1);
    assert_eq!(seen[2].heads[0].role, Role::Filter);
    assert_eq!((&seen[2].stdin[..], &seen[2].data[..]), (&b"the body"[..], &b"the file"[..]));
    assert_eq!(seen[3].ends, ["abort", "stdin"]);
    assert_eq!(seen[4].error, Some(ProtocolError::ParamsTooLong(10_000)));
    assert_eq!(seen[5].error, Some(ProtocolError::Pairs));
    assert_eq!(seen[6].error, Some(ProtocolError::Version(b'G')));
}

#[test]
fn byte_by_byte_it_is_the_same() {
    for recording in recordings() {
        assert_eq!(feed(recording.chunks(1)), feed([&recording[..]]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_requests(
        which in 0..7usize,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let recording = &recordings()[which];
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(recording.len() + 1)).collect();
        cuts.extend([0, recording.len()]);
        cuts.sort_unstable();
        let portions = cuts.windows(2).map(|pair| &recording[pair[0]..pair[1]]);
        prop_assert_eq!(feed(portions), feed([&recording[..]]));
    }

    #[test]
    fn any_split_of_any_bytes_gives_the_same(
        bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1), 0..12u8, any::<u8>()], 0..400),
        size in 1..50usize,
    ) {
        prop_assert_eq!(feed(bytes.chunks(size)), feed([&bytes[..]]));
    }
}
