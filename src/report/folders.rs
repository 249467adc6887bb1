//! The names of an organization's folders, by id and in byte order. Pure: the names lie in scratch storage, because an
//! organization may have 50,000 of them.

use crate::scratch::Scratch;
use std::collections::HashMap;
use std::io;
use std::ops::Range;

/// Folder id -> its rank in byte order of the names, and the name.
pub struct Folders {
    index: HashMap<i32, Folder>,
    names: Box<dyn Scratch>,
}

/// One folder.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Its place in byte order of the names.
    pub rank: usize,
    name: Range<u64>,
}

impl Folders {
    /// No folders yet; their names will be stored in `names`.
    pub fn new(names: Box<dyn Scratch>) -> Self {
        Self { index: HashMap::new(), names }
    }

    /// Adds a folder. Folders are added in byte order of their names.
    pub fn add(&mut self, id: i32, name: &str) -> io::Result<()> {
        let start = self.names.len();
        self.names.append(name.as_bytes())?;
        let folder = Folder { rank: self.index.len(), name: start..self.names.len() };
        self.index.insert(id, folder);
        Ok(())
    }

    pub fn get(&self, id: i32) -> Option<&Folder> {
        self.index.get(&id)
    }

    /// The name of one of these folders.
    pub fn name(&mut self, folder: &Folder) -> io::Result<String> {
        let length = usize::try_from(folder.name.end - folder.name.start).map_err(io::Error::other)?;
        let mut name = vec![0; length];
        self.names.read_exact_at(folder.name.start, &mut name)?;
        String::from_utf8(name).map_err(io::Error::other)
    }
}
