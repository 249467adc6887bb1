//! A text decoded to UTF-8 with line feeds, and known by its digest. Touches nothing but the bytes that it is given.

use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE};
use sha2::{Digest, Sha256};
use std::io::{self, Read};

/// The bytes in which UTF-16 is recognized.
const SNIFFED: usize = 4096;
const CHUNK: usize = 64 * 1024;

/// The encoding of a text that begins with this, and the length of its byte order mark.
fn recognize(first: &[u8], given: Option<&'static Encoding>) -> (&'static Encoding, usize) {
    if let Some((encoding, length)) = Encoding::for_bom(first) {
        return (encoding, length);
    }
    if let Some(encoding) = given {
        return (encoding, 0);
    }
    // Letters of most languages have a zero byte in UTF-16, and text in UTF-8 has none.
    let zeros = |offset: usize| first.iter().skip(offset).step_by(2).filter(|byte| **byte == 0).count();
    let (high, low, pairs) = (zeros(0), zeros(1), first.len() / 2);
    let most = |zeros: usize| pairs >= 2 && zeros * 10 > pairs * 4;
    match (most(high), most(low)) {
        (true, false) => (UTF_16BE, 0),
        (false, true) => (UTF_16LE, 0),
        _ => (declared(first).unwrap_or(UTF_8), 0),
    }
}

/// The encoding that an XML document declares. Its declaration can be read, so it is none of 16 bits.
fn declared(first: &[u8]) -> Option<&'static Encoding> {
    let text = String::from_utf8_lossy(first);
    let (declaration, _) = text.trim_start().strip_prefix("<?xml")?.split_once("?>")?;
    let value = declaration.split_once("encoding")?.1.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let label = value.split(quote).nth(1)?;
    Encoding::for_label_no_replacement(label.as_bytes()).filter(|encoding| encoding.is_ascii_compatible())
}

/// Text in UTF-8 with line feeds. Bytes of a UTF-8 file that are invalid pass through as they are.
pub struct Text {
    plain: Box<dyn Read + Send>,
    decoder: Option<Decoder>,
    undecoded: Vec<u8>,
    /// A carriage return was read, and it is not known yet what follows.
    has_return: bool,
    is_at_end: bool,
    ready: Vec<u8>,
    given: usize,
    digest: Sha256,
    length: u64,
    /// What there is up to its last line end.
    complete: (u64, Sha256),
}

/// What a text was, when all of it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    pub sha256: [u8; 32],
    pub bytes: u64,
    /// Those up to its last line end.
    pub complete_bytes: u64,
}

impl Fingerprint {
    /// Whether its last line has an end.
    pub fn is_complete(&self) -> bool {
        self.complete_bytes == self.bytes
    }
}

impl Text {
    /// Of plain bytes. Without an encoding it is recognized by the first of them.
    pub fn new(mut plain: Box<dyn Read + Send>, encoding: Option<&'static Encoding>) -> io::Result<Self> {
        let mut first = vec![0; SNIFFED];
        let mut filled = 0;
        while filled < first.len() {
            match plain.read(&mut first[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        first.truncate(filled);
        let (encoding, mark) = recognize(&first, encoding);
        let rest = io::Cursor::new(first.split_off(mark)).chain(plain);
        let decoder = (encoding != UTF_8).then(|| encoding.new_decoder_without_bom_handling());
        Ok(Self {
            plain: Box::new(rest),
            decoder,
            undecoded: Vec::new(),
            has_return: false,
            is_at_end: false,
            ready: Vec::new(),
            given: 0,
            digest: Sha256::new(),
            length: 0,
            complete: (0, Sha256::new()),
        })
    }

    /// How much of it was read, as text.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint {
            sha256: self.digest.clone().finalize().into(),
            bytes: self.length,
            complete_bytes: self.complete.0,
        }
    }

    /// The same of what there is up to its last line end.
    pub fn fingerprint_of_whole_lines(&self) -> Fingerprint {
        let (bytes, digest) = &self.complete;
        Fingerprint { sha256: digest.clone().finalize().into(), bytes: *bytes, complete_bytes: *bytes }
    }

    /// The next piece of normal text into `ready`; empty only at the end.
    fn fill(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.given = 0;
        while self.ready.is_empty() && !self.is_at_end {
            let mut chunk = vec![0; CHUNK];
            let read = self.plain.read(&mut chunk)?;
            chunk.truncate(read);
            self.is_at_end = read == 0;
            let decoded = match &mut self.decoder {
                None => chunk,
                Some(decoder) => {
                    self.undecoded.extend_from_slice(&chunk);
                    let mut out = Vec::new();
                    decode(decoder, &mut self.undecoded, &mut out, self.is_at_end);
                    out
                }
            };
            self.ready.reserve(decoded.len() + 1);
            for byte in decoded {
                if self.has_return && byte != b'\n' {
                    self.ready.push(b'\r');
                }
                self.has_return = byte == b'\r';
                if !self.has_return {
                    self.ready.push(byte);
                }
            }
            if self.is_at_end && std::mem::take(&mut self.has_return) {
                self.ready.push(b'\r');
            }
        }
        let lines = self.ready.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        self.digest.update(&self.ready[..lines]);
        if lines > 0 {
            self.complete = (self.length + lines as u64, self.digest.clone());
        }
        self.digest.update(&self.ready[lines..]);
        self.length += self.ready.len() as u64;
        Ok(())
    }
}

fn decode(decoder: &mut Decoder, undecoded: &mut Vec<u8>, out: &mut Vec<u8>, is_last: bool) {
    let mut taken = 0;
    let mut piece = vec![0; CHUNK];
    loop {
        let (result, read, written, _) = decoder.decode_to_utf8(&undecoded[taken..], &mut piece, is_last);
        taken += read;
        out.extend_from_slice(&piece[..written]);
        if result == CoderResult::InputEmpty {
            break;
        }
    }
    undecoded.clear();
}

impl Read for Text {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.ready.len() {
            self.fill()?;
        }
        let size = buffer.len().min(self.ready.len() - self.given);
        buffer[..size].copy_from_slice(&self.ready[self.given..self.given + size]);
        self.given += size;
        Ok(size)
    }
}

/// Those of these beginnings, each a length and a digest, that the text has; the longest comes last.
pub fn known_beginnings(mut text: Text, beginnings: &[(u64, [u8; 32])]) -> io::Result<Vec<(u64, [u8; 32])>> {
    let mut sorted = beginnings.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut digest = Sha256::new();
    let mut found = Vec::new();
    let mut chunk = vec![0; CHUNK];
    let mut position = 0_u64;
    let mut next = sorted.into_iter().peekable();
    loop {
        while let Some((length, sha256)) = next.next_if(|(length, _)| *length <= position) {
            if length == position && <[u8; 32]>::from(digest.clone().finalize()) == sha256 {
                found.push((length, sha256));
            }
        }
        let Some((length, _)) = next.peek() else { return Ok(found) };
        let wanted = usize::try_from(length - position).unwrap_or(usize::MAX).min(chunk.len());
        match text.read(&mut chunk[..wanted])? {
            0 => return Ok(found),
            read => {
                digest.update(&chunk[..read]);
                position += read as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8], encoding: Option<&'static Encoding>) -> Text {
        Text::new(Box::new(io::Cursor::new(bytes.to_vec())), encoding).unwrap()
    }

    fn read(bytes: &[u8], encoding: Option<&'static Encoding>) -> Vec<u8> {
        let mut read = Vec::new();
        text(bytes, encoding).read_to_end(&mut read).unwrap();
        read
    }

    fn utf16(text: &str, pair: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(pair).collect()
    }

    #[test]
    fn each_encoding_becomes_utf_8_with_line_feeds() {
        let text = "company,folder\nacme,Büro 📞\n";
        let crlf = text.replace('\n', "\r\n");
        for bytes in [
            text.as_bytes().to_vec(),
            crlf.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", crlf.as_bytes()].concat(),
            utf16(&crlf, u16::to_le_bytes),
            utf16(&crlf, u16::to_be_bytes),
            utf16(&format!("\u{feff}{crlf}"), u16::to_le_bytes),
            utf16(&format!("\u{feff}{crlf}"), u16::to_be_bytes),
        ] {
            assert_eq!(String::from_utf8(read(&bytes, None)).unwrap(), text);
        }
        assert_eq!(read(b"B\xfcro", Some(encoding_rs::WINDOWS_1252)), "Büro".as_bytes());
        assert!(read(b"<?xml version='1.0' encoding='ISO-8859-1'?>\xfc", None).ends_with("ü".as_bytes()));
        assert!(read(b"<?xml version=\"1.0\" encoding = \"latin1\" ?>\xfc", None).ends_with("ü".as_bytes()));
        assert!(read("<?xml version='1.0' encoding='UTF-16'?>ü".as_bytes(), None).ends_with("ü".as_bytes()));
        assert!(read(b"<?xml version='1.0' encoding='x'?>\xfc", None).ends_with(b"\xfc"));
        assert_eq!(read(b"a\rb\r", None), b"a\rb\r");
        assert_eq!(read(b"a\xa5b", None), b"a\xa5b");
        assert_eq!(read(b"", None), b"");
    }

    #[test]
    fn long_texts_are_normal_at_every_border() {
        let long = "x".repeat(CHUNK - 1) + "\r\n" + &"y".repeat(CHUNK) + "\r\n";
        assert_eq!(read(long.as_bytes(), None), long.replace("\r\n", "\n").as_bytes());
        let bytes = utf16(&long, u16::to_le_bytes);
        assert_eq!(read(&bytes, None), long.replace("\r\n", "\n").as_bytes());
    }

    #[test]
    fn a_text_is_known_by_its_beginnings() {
        let fingerprint = |text: &str| {
            let mut text = self::text(text.as_bytes(), None);
            io::copy(&mut text, &mut io::sink()).unwrap();
            (text.fingerprint().bytes, text.fingerprint().sha256)
        };
        let known = [fingerprint("a\n"), fingerprint("a\nb"), fingerprint("x\n"), fingerprint("a\nbcdefgh\n")];
        let found = |bytes: &str| -> Vec<u64> {
            let found = known_beginnings(text(bytes.as_bytes(), None), &known).unwrap();
            found.into_iter().map(|(length, _)| length).collect()
        };
        assert_eq!(found("a\nbc\n"), [2, 3]);
        assert_eq!(found("a\r\nd\n"), [2]);
        assert_eq!((found("y\n"), found("")), (vec![], vec![]));
    }
}
