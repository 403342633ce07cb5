//! Lists a directory in pages: a listing holds at most one page, for directories of any size.

use crate::descriptors::Descriptor;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom, openat, seek, statat},
    io::Errno,
};
use std::{collections::VecDeque, fs::File, io, mem::MaybeUninit};

/// The size of a request to the kernel: about forty entries.
const PAGE: usize = 2 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub kind: FileType,
    pub inode: u64,
    /// The position of the next entry.
    pub next: u64,
}

/// A position in a directory.
pub struct Listing {
    directory: File,
    page: VecDeque<Entry>,
    _descriptor: Descriptor,
}

impl Listing {
    /// Opens a listing. Blocks.
    pub fn open(directory: &File, descriptor: Descriptor) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = openat(directory, ".", flags, Mode::empty())?;
        Ok(Self { directory: own.into(), page: VecDeque::new(), _descriptor: descriptor })
    }

    /// Returns whether the next entry is already read.
    pub fn has_next(&self) -> bool {
        !self.page.is_empty()
    }

    /// Returns the next entry, except `.` and `..`. Blocks if the page is used up.
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
        while self.page.is_empty() {
            let mut count = 0;
            let page = &mut self.page;
            read(&self.directory, None, |entry, is_last| {
                count += 1;
                if !matches!(entry.name.as_str(), "." | "..") {
                    page.push_back(entry);
                }
                !is_last
            })?;
            if count == 0 {
                return Ok(None);
            }
        }
        Ok(self.page.pop_front())
    }
}

/// Reads entries from the position `from`, or from the end of the last read, until `take` returns false. `take` learns
/// which entry is the last of a page: later ones are not read yet. Blocks.
pub fn read(directory: &File, from: Option<u64>, mut take: impl FnMut(Entry, bool) -> bool) -> io::Result<()> {
    if let Some(from) = from {
        seek(directory, SeekFrom::Start(from))?;
    }
    let mut buffer = [MaybeUninit::uninit(); PAGE];
    let mut page = RawDir::new(directory, &mut buffer);
    while let Some(entry) = page.next() {
        let entry = entry?;
        let name = entry.file_name();
        let kind = match entry.file_type() {
            FileType::Unknown => FileType::from_raw_mode(statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
            known => known,
        };
        let name = name.to_str().map_err(|_| io::Error::from(Errno::ILSEQ))?.to_owned();
        let entry = Entry { name, kind, inode: entry.ino(), next: entry.next_entry_cookie() };
        if !take(entry, page.is_buffer_empty()) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptors::{Descriptors, Share};
    use std::{collections::BTreeSet, sync::Arc};

    #[test]
    fn listing_has_every_entry_once_and_holds_one_page() {
        let directory = tempfile::tempdir().unwrap();
        let names: BTreeSet<_> = (0..1000).map(|number| format!("entry-{number}")).collect();
        for name in &names {
            File::create(directory.path().join(name)).unwrap();
        }
        let share = Share::of(&Arc::new(Descriptors::new(8)));
        let mut listing = Listing::open(&File::open(directory.path()).unwrap(), share.take().unwrap()).unwrap();
        let mut found = BTreeSet::new();
        while let Some(entry) = listing.next().unwrap() {
            assert_eq!(entry.kind, FileType::RegularFile);
            assert!(listing.page.len() < 100);
            assert!(found.insert(entry.name));
        }
        assert_eq!(found, names);
        assert_eq!(listing.next().unwrap(), None);
    }

    #[test]
    fn reading_continues_at_the_position_of_an_entry() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..300 {
            File::create(directory.path().join(number.to_string())).unwrap();
        }
        let opened = File::open(directory.path()).unwrap();
        let mut names = BTreeSet::new();
        let mut from = 0;
        loop {
            let mut last = None;
            read(&opened, Some(from), |entry, _| {
                last = Some(entry);
                false
            })
            .unwrap();
            let Some(entry) = last else { break };
            from = entry.next;
            assert!(names.insert(entry.name));
        }
        assert_eq!(names.len(), 302);
    }
}
