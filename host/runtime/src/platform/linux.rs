//! What Linux offers beyond other Unix systems: handles of objects that are not opened (`O_PATH`), paths of open files
//! (`/proc/self/fd`), files in memory, and processes that end with their parent.

use super::Entry;
use distillery_core::size::Size;
use rustix::{
    fs::{
        AtFlags, CWD, FileType, MemfdFlags, Mode, OFlags, RawDir, SeekFrom, Timestamps, fstat, memfd_create, open,
        openat, seek, utimensat,
    },
    io::{ReadWriteFlags, pwritev2},
    process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit},
};
use std::{
    fs::File,
    io::{self, IoSlice, Seek, Write},
    mem::MaybeUninit,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::Command,
};

/// This program, even if its file was replaced in the meantime.
const PROGRAM: &str = "/proc/self/exe";
/// The size of a request for entries of a directory: about forty entries.
const PAGE: usize = 2 << 10;
/// A file that always exists in the directory of [`always_there`].
pub const FILE_ALWAYS_THERE: [u8; 4] = *b"comm";

/// Returns why a process that compiles cannot be bounded in memory, if so.
pub fn unbounded_worker() -> Option<&'static str> {
    None
}

/// Returns a command that runs this program with `input` as its stdin.
pub fn worker(input: &[u8]) -> io::Result<Command> {
    let mut command = Command::new(PROGRAM);
    command.stdin(in_memory(input)?);
    Ok(command)
}

/// Creates an anonymous file in memory. Unlike a pipe, it can be filled before it is read.
fn in_memory(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("module", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// Ends this process together with its parent.
pub fn end_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Limits this process to `size` of additional memory, and disables core dumps.
pub fn bound_memory(size: Size) -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let data = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let data = data.and_then(|data| data.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let data = data.ok_or_else(|| io::Error::other("the kernel does not tell how much memory this process has"))?;
    for (resource, most) in [(Resource::Data, (data << 10).saturating_add(size.get())), (Resource::Core, 0)] {
        let maximum = getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
        setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) })?;
    }
    Ok(())
}

/// Returns the maximum number of memory mappings of a process.
pub fn most_mappings() -> u64 {
    let most = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    most.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX)
}

/// Returns the size of the address space: 2^47 on x86-64, 2^39 to 2^48 on arm64, as the kernel was configured. The stack
/// lies at its end.
pub fn address_space() -> Option<u64> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let stack = maps.lines().find(|line| line.ends_with("[stack]"))?;
    let (_, end) = stack.split_once(' ')?.0.split_once('-')?;
    u64::from_str_radix(end, 16).ok()?.checked_next_power_of_two()
}

/// Returns the values to which the limit of open files can be raised, best first.
pub fn limits_of_open_files(maximum: Option<u64>) -> impl Iterator<Item = Option<u64>> {
    [maximum].into_iter()
}

/// An open directory that can be opened again, whatever becomes of its path.
#[derive(Debug)]
pub struct Directory(File);

impl Directory {
    /// Opens a directory. Blocks.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?.into()))
    }

    /// Returns device and inode. The open handle keeps them from being reused.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        self.0.metadata().map(|it| (it.dev(), it.ino()))
    }

    /// Returns a path that leads to this directory.
    pub fn path(&self) -> io::Result<PathBuf> {
        Ok(path_of(&self.0))
    }
}

/// Returns a path that leads to an open object.
fn path_of(object: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", object.as_raw_fd()).into()
}

/// Opens an existing object below `directory` if `check` accepts its kind, and returns what `check` says. The object is
/// found without being opened, so that it cannot be replaced after the check. Blocks.
pub fn open_checked<T>(
    directory: &File,
    path: &str,
    follow: bool,
    flags: OFlags,
    check: impl Fn(FileType) -> io::Result<T>,
) -> io::Result<(File, T)> {
    let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let object = handle(directory, path, nofollow)?;
    let checked = check(FileType::from_raw_mode(fstat(&object)?.st_mode))?;
    Ok((open(path_of(&object), flags, Mode::empty())?.into(), checked))
}

/// Sets the times of an object below `directory`, following links, without opening the object. Blocks.
pub fn set_times(directory: &File, path: &str, times: &Timestamps) -> io::Result<()> {
    Ok(utimensat(CWD, path_of(&handle(directory, path, OFlags::empty())?), times, AtFlags::empty())?)
}

/// Returns a handle of an object, which is not opened.
fn handle(directory: &File, path: &str, flags: OFlags) -> io::Result<File> {
    use cap_primitives::fs::{OpenOptions, OpenOptionsExt};
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlags::PATH | flags).bits() as i32);
    cap_primitives::fs::open(directory, Path::new(path), &options)
}

/// Opens a directory that always exists, and has a file of the name [`FILE_ALWAYS_THERE`].
pub fn always_there() -> io::Result<File> {
    Ok(open("/proc/self", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// Writes at the end of a file. Blocks.
pub fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
    Ok(pwritev2(file, &[IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND)?)
}

/// The entries of a directory, a page at a time.
pub struct Pages(File);

impl Pages {
    /// Opens the directory once more, with a position of its own. Blocks.
    pub fn open(directory: &File) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(directory, ".", flags, Mode::empty())?.into()))
    }

    /// Returns the device of the directory.
    pub fn device(&self) -> io::Result<u64> {
        Ok(fstat(&self.0)?.st_dev)
    }

    /// Continues at the position of an entry; zero is the first.
    pub fn seek(&mut self, position: u64) -> io::Result<()> {
        seek(&self.0, SeekFrom::Start(position))?;
        Ok(())
    }

    /// Reads entries from the current position until `take` returns false. `take` learns which entry is the last of a
    /// page: later ones are not read yet. Continue there; anywhere else, seek first. Blocks.
    pub fn read(&mut self, mut take: impl FnMut(Entry, bool) -> bool) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); PAGE];
        let mut page = RawDir::new(&self.0, &mut buffer);
        while let Some(entry) = page.next() {
            let entry = entry?;
            let (kind, inode, next) = (entry.file_type(), entry.ino(), entry.next_entry_cookie());
            let entry = Entry::new(&self.0, entry.file_name(), kind, inode, next)?;
            if !take(entry, page.is_buffer_empty()) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn stack_shows_the_size_of_the_address_space() {
        assert_eq!(super::address_space(), Some(128 << 40));
    }
}
