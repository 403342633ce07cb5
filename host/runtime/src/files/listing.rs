//! Lists a directory in pages: a listing holds at most one page, for directories of any size.

use crate::descriptors::Descriptor;
pub use crate::platform::{Entry, Pages};
use std::{collections::VecDeque, fs::File, io};

/// A position in a directory.
pub struct Listing {
    pages: Pages,
    page: VecDeque<Entry>,
    _descriptor: Descriptor,
}

impl Listing {
    /// Opens a listing. Blocks.
    pub fn open(directory: &File, descriptor: Descriptor) -> io::Result<Self> {
        Ok(Self { pages: Pages::open(directory)?, page: VecDeque::new(), _descriptor: descriptor })
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
            self.pages.read(|entry, is_last| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptors::{Descriptors, Share};
    use rustix::fs::FileType;
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
        let mut pages = Pages::open(&File::open(directory.path()).unwrap()).unwrap();
        let mut names = BTreeSet::new();
        let mut from = 0;
        loop {
            let mut last = None;
            pages.seek(from).unwrap();
            pages
                .read(|entry, _| {
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
