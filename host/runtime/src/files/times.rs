//! Sets the times of a file by its path. The file is not opened, because it can be a pipe.

use crate::platform;
use rustix::{
    fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT},
    io::Errno,
};
use std::{fs::File, io};

/// The change of one of the times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    Keep,
    Now,
    At { seconds: i64, nanoseconds: u32 },
}

impl Time {
    fn spec(self) -> io::Result<Timespec> {
        Ok(match self {
            Self::Keep => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            Self::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
            Self::At { nanoseconds: 1_000_000_000.., .. } => return Err(Errno::INVAL.into()),
            Self::At { seconds, nanoseconds } => Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
        })
    }
}

/// Sets the times of the file at `path`, following links. Blocks.
pub fn set(directory: &File, path: &str, accessed: Time, modified: Time) -> io::Result<()> {
    let times = Timestamps { last_access: accessed.spec()?, last_modification: modified.spec()? };
    platform::set_times(directory, path, &times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn times_of_a_pipe_are_set_without_blocking() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let opened = File::open(directory.path()).unwrap();
        set(&opened, "pipe", Time::Keep, Time::At { seconds: 5, nanoseconds: 0 }).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), UNIX_EPOCH + Duration::from_secs(5));
        assert!(set(&opened, "pipe", Time::Now, Time::At { seconds: 5, nanoseconds: 1_000_000_000 }).is_err());
    }
}
