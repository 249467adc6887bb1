//! What a web server, or anybody else, may send to the FastCGI socket, in portions of any size: the parser alone.

#![no_main]

use arbitrary::Arbitrary;
use fastcgi::parser::{Event, Limits, Parser};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_params_bytes: 4096, max_connections: 100 };

#[derive(Debug, Arbitrary)]
struct Input {
    /// The portions; a request is ended after some of its events.
    portions: Vec<Vec<u8>>,
    ends_after: u8,
}

/// What happened, with streams put together again, and how many bytes of parameters and replies there were.
fn feed<'a>(portions: impl Iterator<Item = &'a [u8]>, ends_after: u8) -> (Vec<String>, Vec<u8>, usize) {
    let mut parser = Parser::new(LIMITS);
    let (mut seen, mut stream, mut replies, mut fed) = (Vec::new(), Vec::new(), 0, 0);
    for mut portion in portions {
        fed += portion.len();
        loop {
            let event = match parser.next(&mut portion) {
                Ok(None) => break,
                Ok(Some(event)) => event,
                Err(error) => {
                    seen.push(error.to_string());
                    return (seen, stream, replies);
                }
            };
            match event {
                Event::Request(head) => {
                    let bytes: usize = head.parameters.iter().map(|(name, value)| name.len() + value.len()).sum();
                    assert!(bytes <= LIMITS.max_params_bytes);
                    for (name, _) in head.parameters.iter() {
                        assert!(head.parameters.get(name).is_some());
                    }
                    seen.push(format!("{head:?}"));
                }
                Event::Stdin(bytes) | Event::Data(bytes) => {
                    assert!(!bytes.is_empty());
                    stream.extend_from_slice(bytes);
                }
                Event::Reply { bytes, is_last } => {
                    assert_eq!(bytes.len() % 8, 0);
                    replies += bytes.len();
                    seen.push(format!("{bytes:?} {is_last}"));
                }
                Event::StdinEnd | Event::DataEnd | Event::Abort => {
                    seen.push(format!("{event:?}"));
                    if ends_after % 2 == 0 {
                        parser.end();
                    }
                }
            }
        }
        assert!(portion.is_empty());
        let _ = (parser.has_begun(), parser.is_stdin_over(), parser.abort_scan().finds_abort(portion));
    }
    // Nobody gets back much more than they send.
    assert!(replies <= 16 * fed + 64);
    (seen, stream, replies)
}

fuzz_target!(|input: Input| {
    let whole = input.portions.concat();
    let seen = feed(input.portions.iter().map(Vec::as_slice), input.ends_after);
    assert_eq!(seen, feed(std::iter::once(&whole[..]), input.ends_after));
    assert_eq!(seen, feed(whole.chunks(1), input.ends_after));
});
