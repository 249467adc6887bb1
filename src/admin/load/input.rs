//! A file of records: opened once, as long as it was then, and decompressed. Touches the file, or standard input; what
//! cannot be read twice is kept in a temporary file.

use crate::admin::error::Error;
use crate::admin::load::text::Text;
use crate::admin::name::shown;
use crate::admin::temporary;
use encoding_rs::Encoding;
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

const CHUNK: usize = 64 * 1024;

/// A file that is open, and can be read more than once.
#[derive(Debug)]
pub struct Input {
    file: File,
    /// Where the part that is read starts, and its length in bytes.
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
            Error::new(format!("cannot keep {} in a temporary file: {error}", Self::name_of(path)), temporary::HINT)
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

    /// The value of a column that stands for the file itself: `file.name`, `file.stem`, `file.folder`, `file.record`.
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
        let plain: Box<dyn Read + Send> =
            if is_compressed { Box::new(MultiGzDecoder::new(raw)) } else { Box::new(raw) };
        Text::new(plain, encoding)
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
    let mut file = temporary::file()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn compressed_files_of_several_members_are_read_whole() {
        let mut bytes = Vec::new();
        for part in ["a\n", "b\n"] {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(part.as_bytes()).unwrap();
            bytes.extend(encoder.finish().unwrap());
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let length = bytes.len() as u64;
        let input = Input { file, start: 0, length, path: None, modified: None, is_regular: true };
        let mut read = Vec::new();
        input.text(None, Arc::default()).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, b"a\nb\n");
    }
}
