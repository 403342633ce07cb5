//! A control group for each command, if systemd has delegated the server's group (`Delegate=yes`).
//!
//! A process cannot leave its group by starting a session or by losing its parent, so killing the group ends all.

use rustix::fs::{Access, access, getxattr};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use uuid::Uuid;

/// The place of the unified hierarchy.
const ROOT: &str = "/sys/fs/cgroup";
/// The mark that systemd leaves on a delegated group.
const DELEGATED: &str = "user.delegate";

/// The control group of one command, removed when dropped.
#[derive(Debug)]
pub struct Group(PathBuf);

/// Returns the group of this server. `None` if the server has no group of its own.
pub fn delegated() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(find).as_deref()
}

fn find() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let path = Path::new(ROOT).join(own.trim_start_matches('/'));
    let mut value = [0; 1];
    let marked = getxattr(&path, DELEGATED, &mut value).is_ok() && value == *b"1";
    // The unit can mark the group and make it read-only at the same time.
    let writable =
        access(&path, Access::WRITE_OK).is_ok() && access(path.join("cgroup.procs"), Access::WRITE_OK).is_ok();
    (marked && writable && path.join("cgroup.kill").exists()).then_some(path)
}

impl Group {
    /// Makes a group below `parent`.
    pub fn make(parent: &Path) -> io::Result<Self> {
        let path = parent.join(format!("command-{}", Uuid::now_v7()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        kill(&self.0);
        if let Err(error) = fs::remove_dir(&self.0) {
            tracing::warn!(group = %self.0.display(), %error, "cannot remove the control group of a command");
        }
    }
}

/// Moves this process into the group `path`. Processes that it starts begin there.
pub fn join(path: &Path) -> io::Result<()> {
    fs::write(path.join("cgroup.procs"), "0")
}

/// Kills every process of the group `path`.
pub fn kill(path: &Path) {
    // A group that is gone has no processes.
    _ = fs::write(path.join("cgroup.kill"), "1");
}
