//! A file of records as text: opened once, as long as it was then, decompressed, decoded to UTF-8 with line feeds, and
//! known by its digest. Touches the file, or standard input; what cannot be read twice is kept in a temporary file.

use crate::admin::error::Error;
use crate::admin::name::shown;
use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE};
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// How much is looked at to tell UTF-16.
const SNIFFED: usize = 4096;
const CHUNK: usize = 64 * 1024;

/// A file that is open, and can be read more than once.
#[derive(Debug)]
pub struct Input {
    file: File,
    /// What is read: from here, and so many bytes.
    start: u64,
    length: u64,
    /// None: standard input, or a pipe.
    path: Option<PathBuf>,
    pub modified: Option<SystemTime>,
    is_regular: bool,
}

impl Input {
    /// `-` is standard input. Nothing that is written to the file from now on is read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let is_stdin = path.as_os_str() == "-";
        let cannot = |error: &io::Error| {
            Error::new(format!("cannot read {}: {error}", Self::name_of(path)), "check the name and who may read it")
        };
        let file = if is_stdin { io::stdin().as_fd().try_clone_to_owned().map(File::from) } else { File::open(path) };
        let mut file = file.map_err(|error| cannot(&error))?;
        let metadata = file.metadata().map_err(|error| cannot(&error))?;
        if metadata.is_dir() {
            return Err(cannot(&io::Error::from(io::ErrorKind::IsADirectory)));
        }
        if metadata.is_file() {
            let start = file.stream_position().map_err(|error| cannot(&error))?;
            let length = metadata.len().saturating_sub(start);
            let path = (!is_stdin).then(|| path.to_owned());
            return Ok(Self { file, start, length, path, modified: metadata.modified().ok(), is_regular: true });
        }
        let spooled = spool(&mut file).map_err(|error| {
            Error::new(
                format!("cannot keep {} in a temporary file: {error}", Self::name_of(path)),
                "make room in TMPDIR, or in /var/tmp if that is not set",
            )
        })?;
        let (file, length) = spooled;
        Ok(Self { file, start: 0, length, path: None, modified: None, is_regular: false })
    }

    /// The file in messages.
    pub fn name_of(path: &Path) -> String {
        if path.as_os_str() == "-" {
            return "standard input".into();
        }
        let text = path.to_string_lossy();
        if text.chars().any(char::is_control) { shown(&text) } else { text.into_owned() }
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether more was written to it since it was opened.
    pub fn has_grown(&self) -> bool {
        let length = self.file.metadata().map(|metadata| metadata.len());
        self.is_regular && length.is_ok_and(|length| length > self.start + self.length)
    }

    /// What a mapping may say of the file itself: `file.name`, `file.stem`, `file.folder`, `file.record`.
    pub fn part_of_name(&self, column: &str) -> Option<String> {
        let path = self.path.as_deref();
        let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        match column {
            "file.name" => Some(text(path.and_then(Path::file_name)).unwrap_or_default()),
            "file.stem" => Some(text(path.and_then(Path::file_stem)).unwrap_or_default()),
            "file.folder" => {
                let absolute = path.and_then(|path| std::path::absolute(path).ok());
                Some(text(absolute.as_deref().and_then(Path::parent).and_then(Path::file_name)).unwrap_or_default())
            }
            "file.record" => Some(String::new()), // each record has its own
            _ => None,
        }
    }

    /// The text from its beginning. `progress` counts the bytes of the file that were read.
    pub fn text(&self, encoding: Option<&'static Encoding>, progress: Arc<AtomicU64>) -> io::Result<Text> {
        let raw = Raw { file: self.file.try_clone()?, position: self.start, end: self.start + self.length, progress };
        let mut raw = BufReader::with_capacity(CHUNK, raw);
        let is_compressed = io::BufRead::fill_buf(&mut raw)?.starts_with(&[0x1f, 0x8b]);
        let mut plain: Box<dyn Read + Send> =
            if is_compressed { Box::new(MultiGzDecoder::new(raw)) } else { Box::new(raw) };
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
        Ok(Text {
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

    /// The digest of the bytes of the file itself.
    pub fn digest_of_bytes(&self) -> io::Result<[u8; 32]> {
        let mut raw = Raw {
            file: self.file.try_clone()?,
            position: self.start,
            end: self.start + self.length,
            progress: Arc::default(),
        };
        let mut digest = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            match raw.read(&mut chunk)? {
                0 => return Ok(digest.finalize().into()),
                read => digest.update(&chunk[..read]),
            }
        }
    }
}

/// Copies what cannot be read twice into a file without a name.
fn spool(source: &mut File) -> io::Result<(File, u64)> {
    let folder = std::env::var_os("TMPDIR").filter(|folder| !folder.is_empty()).unwrap_or_else(|| "/var/tmp".into());
    let mut file = tempfile::tempfile_in(folder)?;
    let length = io::copy(source, &mut file)?;
    file.seek(SeekFrom::Start(0))?;
    Ok((file, length))
}

/// The bytes of the file, at places of its own: several of these can read one file.
struct Raw {
    file: File,
    position: u64,
    end: u64,
    progress: Arc<AtomicU64>,
}

impl Read for Raw {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.end - self.position).unwrap_or(usize::MAX).min(buffer.len());
        let read = std::os::unix::fs::FileExt::read_at(&self.file, &mut buffer[..wanted], self.position)?;
        self.position += read as u64;
        self.progress.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

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
        _ => (UTF_8, 0),
    }
}

/// Text in UTF-8 with line feeds. Bytes that are not UTF-8 in a file that is said to be pass through as they are.
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

/// The longest of these beginnings, each a length and a digest, that the text has; none: it has none of them.
pub fn known_beginning(mut text: Text, beginnings: &[(u64, [u8; 32])]) -> io::Result<Option<(u64, [u8; 32])>> {
    let mut sorted = beginnings.to_vec();
    sorted.sort_unstable();
    let mut digest = Sha256::new();
    let mut found = None;
    let mut chunk = vec![0; CHUNK];
    let mut position = 0_u64;
    let mut next = sorted.into_iter().peekable();
    loop {
        while let Some((length, sha256)) = next.next_if(|(length, _)| *length <= position) {
            if length == position && <[u8; 32]>::from(digest.clone().finalize()) == sha256 {
                found = Some((length, sha256));
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
    use std::io::Write;

    fn input(bytes: &[u8]) -> Input {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Input { file, start: 0, length: bytes.len() as u64, path: None, modified: None, is_regular: true }
    }

    fn read(bytes: &[u8], encoding: Option<&'static Encoding>) -> Vec<u8> {
        let mut read = Vec::new();
        input(bytes).text(encoding, Arc::default()).unwrap().read_to_end(&mut read).unwrap();
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
        assert_eq!(read(b"a\rb\r", None), b"a\rb\r");
        assert_eq!(read(b"a\xa5b", None), b"a\xa5b");
        assert_eq!(read(b"", None), b"");
    }

    #[test]
    fn compressed_files_of_several_members_are_read_whole() {
        let mut bytes = Vec::new();
        for part in ["a\n", "b\n"] {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(part.as_bytes()).unwrap();
            bytes.extend(encoder.finish().unwrap());
        }
        assert_eq!(read(&bytes, None), b"a\nb\n");
    }

    #[test]
    fn long_texts_are_normal_at_every_border() {
        let long = "x".repeat(CHUNK - 1) + "\r\n" + &"y".repeat(CHUNK) + "\r\n";
        assert_eq!(read(long.as_bytes(), None), long.replace("\r\n", "\n").as_bytes());
        let bytes = utf16(&long, u16::to_le_bytes);
        assert_eq!(read(&bytes, None), long.replace("\r\n", "\n").as_bytes());
    }

    #[test]
    fn a_text_is_known_by_its_longest_beginning() {
        let fingerprint = |text: &str| {
            let mut text = input(text.as_bytes()).text(None, Arc::default()).unwrap();
            io::copy(&mut text, &mut io::sink()).unwrap();
            (text.fingerprint().bytes, text.fingerprint().sha256)
        };
        let known = [fingerprint("a\n"), fingerprint("a\nb"), fingerprint("x\n"), fingerprint("a\nbcdefgh\n")];
        let found = |text: &str| {
            let text = input(text.as_bytes()).text(None, Arc::default()).unwrap();
            known_beginning(text, &known).unwrap().map(|(length, _)| length)
        };
        assert_eq!(found("a\nbc\n"), Some(3));
        assert_eq!(found("a\r\nd\n"), Some(2));
        assert_eq!((found("y\n"), found("")), (None, None));
    }
}
