//! The usage of a private directory, counted from its process's operations without ever searching. A file counts from
//! its creation until its last name is removed and its last handle is closed, in any subdirectory.

use rustix::io::Errno;
use std::{collections::HashMap, fs::Metadata, io, os::unix::fs::MetadataExt};

#[derive(Debug)]
pub struct Ledger {
    bytes: u64,
    most_bytes: u64,
    entries: u64,
    most_entries: u64,
    /// Every file and symbolic link, by inode number.
    files: HashMap<u64, Counted>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    /// Holes count as data.
    size: u64,
    names: u64,
    handles: u64,
}

/// The kind of entry that a name refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    Directory,
    File { number: u64 },
}

impl Ledger {
    pub fn new(most_bytes: u64, most_entries: u64) -> Self {
        Self { bytes: 0, most_bytes, entries: 0, most_entries, files: HashMap::new() }
    }

    /// Reserves one more name, and `bytes` for its entry.
    pub fn add_entry(&mut self, bytes: u64) -> io::Result<()> {
        let (bytes, entries) = (self.bytes.saturating_add(bytes), self.entries + 1);
        if bytes > self.most_bytes || entries > self.most_entries {
            return Err(Errno::NOSPC.into());
        }
        (self.bytes, self.entries) = (bytes, entries);
        Ok(())
    }

    /// Releases the reservation of a name that was not created.
    pub fn take_back_entry(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.entries = self.entries.saturating_sub(1);
    }

    /// Records one more name of the file `number`; the name is already reserved, and `size` bytes if the file is new.
    pub fn named(&mut self, number: u64, size: u64) {
        self.files.entry(number).or_insert(Counted { size, ..Counted::default() }).names += 1;
    }

    /// Records the removal of a name.
    pub fn removed(&mut self, named: Named) {
        self.entries = self.entries.saturating_sub(1);
        if let Named::File { number } = named {
            self.release(number, |file| file.names = file.names.saturating_sub(1));
        }
    }

    pub fn opened(&mut self, metadata: &Metadata) {
        let (bytes, names) = (metadata.len(), metadata.nlink());
        let file = self.files.entry(metadata.ino()).or_insert_with(|| {
            self.bytes = self.bytes.saturating_add(bytes);
            Counted { size: bytes, names, handles: 0 }
        });
        file.handles += 1;
    }

    pub fn closed(&mut self, number: u64) {
        self.release(number, |file| file.handles = file.handles.saturating_sub(1));
    }

    /// Reserves the bytes that a file needs to grow to `size`, before it grows.
    pub fn grow(&mut self, number: u64, size: u64) -> io::Result<()> {
        let file = self.files.entry(number).or_default();
        let growth = size.saturating_sub(file.size);
        let bytes = self.bytes.saturating_add(growth);
        if growth > 0 && bytes > self.most_bytes {
            return Err(Errno::NOSPC.into());
        }
        self.bytes = bytes;
        file.size = file.size.max(size);
        Ok(())
    }

    /// Records that the file now has `size` bytes.
    pub fn settle(&mut self, number: u64, size: u64) {
        if let Some(file) = self.files.get_mut(&number) {
            self.bytes = self.bytes.saturating_sub(file.size).saturating_add(size);
            file.size = size;
        }
    }

    fn release(&mut self, number: u64, what: impl FnOnce(&mut Counted)) {
        let Some(file) = self.files.get_mut(&number) else { return };
        what(file);
        let Counted { size, names, handles } = *file;
        if names == 0 && handles == 0 {
            self.files.remove(&number);
            self.bytes = self.bytes.saturating_sub(size);
        }
    }

    #[cfg(test)]
    pub fn used(&self) -> (u64, u64) {
        (self.bytes, self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_counts_until_its_last_name_and_handle_are_gone() {
        let mut ledger = Ledger::new(100, 10);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "").unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        let number = metadata.ino();
        ledger.add_entry(0).unwrap();
        ledger.named(number, 0);
        ledger.opened(&metadata);
        ledger.grow(number, 60).unwrap();
        ledger.settle(number, 60);
        assert!(ledger.grow(number, 101).is_err());
        ledger.add_entry(0).unwrap();
        ledger.named(number, 0);
        ledger.removed(Named::File { number });
        ledger.removed(Named::File { number });
        assert_eq!(ledger.used(), (60, 0));
        ledger.opened(&metadata);
        ledger.closed(number);
        assert_eq!(ledger.used(), (60, 0));
        ledger.closed(number);
        assert_eq!(ledger.used(), (0, 0));
    }

    #[test]
    fn unused_bytes_of_a_write_are_released() {
        let mut ledger = Ledger::new(100, 1);
        ledger.named(1, 0);
        ledger.grow(1, 90).unwrap();
        ledger.settle(1, 10);
        assert_eq!(ledger.used().0, 10);
        ledger.grow(1, 100).unwrap();
        ledger.settle(1, 100);
        assert!(ledger.grow(1, u64::MAX).is_err());
        ledger.settle(1, 0);
        assert_eq!(ledger.used().0, 0);
        ledger.add_entry(100).unwrap();
        assert!(ledger.add_entry(0).is_err());
        ledger.take_back_entry(100);
        assert_eq!(ledger.used(), (0, 0));
    }
}
