//! The control socket, which connects the command line to a running server: a file in the `data` directory for its
//! owner only. It also prevents a second server on that directory.

use crate::platform;
use distillery_core::private::{self, NotPrivate, Use};
use parking_lot::Mutex;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// The file name of the socket in the `data` directory.
pub const SOCKET: &str = "control.sock";
/// The name of the file that the server of a `data` directory keeps locked.
const LOCK: &str = "control.lock";

/// The time that a server has to end after a failed takeover.
const LAST_MOMENTS: Duration = Duration::from_secs(5);

/// The socket of this server, removed when it is dropped.
#[derive(Debug)]
pub struct Local {
    listener: UnixListener,
    data: PathBuf,
    path: PathBuf,
    /// `None` once another server has the directory.
    lock: Mutex<Option<File>>,
}

#[derive(Debug, thiserror::Error)]
pub enum CannotControl {
    #[error(
        "another server already uses the directory {}: stop it, or set `data` in distillery.yaml to another one",
        .0.display()
    )]
    Taken(PathBuf),
    #[error(
        "cannot make {}: {error}; set `data` in distillery.yaml to a directory that can be written, with a short path",
        .path.display()
    )]
    Impossible { path: PathBuf, error: io::Error },
    #[error("cannot use {} for `data`: {error}", .data.display())]
    NotPrivate { data: PathBuf, error: NotPrivate },
}

impl Local {
    /// Creates the socket in the directory `data`, and replaces one that an earlier server left behind.
    pub fn bind(data: &Path) -> Result<Self, CannotControl> {
        let path = data.join(SOCKET);
        let impossible = |path: &Path| {
            let path = path.to_owned();
            move |error| CannotControl::Impossible { path, error }
        };
        private::directory(data, Use::Serve).map_err(not_private(data))?;
        let lock = locked(data)?;
        let listener = bind_owned(data, &path).map_err(impossible(&path))?;
        Ok(Self { listener, data: data.to_owned(), path, lock: Mutex::new(Some(lock)) })
    }

    /// Leaves the directory to another server. The socket stays until that server replaces it.
    pub fn give_up(&self) {
        // A second name, from which the socket can be restored. The server can work without it.
        let _ = fs::hard_link(&self.path, self.kept());
        *self.lock.lock() = None;
    }

    /// Takes the directory back because the other server did not start.
    pub fn take_back(&self) -> Result<(), CannotControl> {
        let until = Instant::now() + LAST_MOMENTS;
        let lock = loop {
            match locked(&self.data) {
                Ok(lock) => break lock,
                // The other server is ending, and releases the lock soon.
                Err(CannotControl::Taken(_)) if Instant::now() < until => thread::sleep(Duration::from_millis(20)),
                Err(error) => return Err(error),
            }
        };
        *self.lock.lock() = Some(lock);
        let back = fs::rename(self.kept(), &self.path);
        back.map_err(|error| CannotControl::Impossible { path: self.path.clone(), error })
    }

    fn kept(&self) -> PathBuf {
        self.data.join(format!(".kept-{}", std::process::id()))
    }

    pub fn is_given_up(&self) -> bool {
        self.lock.lock().is_none()
    }

    /// Returns the listener for an asynchronous runtime. The socket stays with this server.
    pub fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        self.listener.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

fn not_private(data: &Path) -> impl Fn(NotPrivate) -> CannotControl {
    move |error| match error {
        NotPrivate::Io(error) => CannotControl::Impossible { path: data.to_owned(), error },
        error => CannotControl::NotPrivate { data: data.to_owned(), error },
    }
}

/// Locks a directory that no other server uses.
fn locked(data: &Path) -> Result<File, CannotControl> {
    let path = data.join(LOCK);
    // Another user can have such a file open, and can lock it at any time.
    let was_open_to_others = fs::symlink_metadata(&path).is_ok_and(|it| it.mode() & 0o077 != 0);
    private::file(&path, Use::Serve).map_err(not_private(data))?;
    let lock = lock(&path);
    if !was_open_to_others {
        return lock;
    }
    match lock {
        Err(CannotControl::Taken(_)) if !platform::is_served_by_this_user(&data.join(SOCKET)) => {
            tracing::warn!(path = %path.display(), "another user has locked this file: replacing it");
        }
        // Held until the new file is in place.
        lock => drop(lock?),
    }
    let aside = data.join(format!(".lock-{}", std::process::id()));
    // Left behind by a killed server with the same process ID.
    let _ = fs::remove_file(&aside);
    let new = self::lock(&aside)?;
    fs::rename(&aside, &path).map_err(|error| CannotControl::Impossible { path, error })?;
    Ok(new)
}

/// Locks a file, creating it if necessary.
fn lock(path: &Path) -> Result<File, CannotControl> {
    let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(path);
    let lock = lock.map_err(|error| CannotControl::Impossible { path: path.to_owned(), error })?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(CannotControl::Taken(path.parent().unwrap_or(path).to_owned())),
        Err(error) => tracing::warn!(path = %path.display(), %error, "a second server would not be noticed"),
    }
    Ok(lock)
}

/// Binds a socket that is never accessible to others: creates it in a private directory and then moves it into place.
pub(super) fn bind_owned(data: &Path, path: &Path) -> io::Result<UnixListener> {
    let name = path.file_stem().unwrap_or_default().display();
    let aside = data.join(format!(".{name}-{}", std::process::id()));
    // Left behind by a killed server with the same process ID.
    let _ = fs::remove_dir_all(&aside);
    DirBuilder::new().mode(0o700).create(&aside)?;
    let socket = aside.join("s");
    let bound = UnixListener::bind(&socket).and_then(|listener| {
        fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
        fs::rename(&socket, path)?;
        Ok(listener)
    });
    let _ = fs::remove_dir_all(&aside);
    bound
}

impl Local {
    /// Removes the socket. The directory belongs to this server until its process has ended.
    pub fn close(&self) {
        // While the lock is held, the socket belongs to this server.
        let own = if self.is_given_up() { &self.kept() } else { &self.path };
        let _ = fs::remove_file(own);
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn private_socket_replaces_a_leftover_one() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        drop(UnixListener::bind(data.join(SOCKET)).unwrap());
        let local = Local::bind(&data).unwrap();
        UnixStream::connect(data.join(SOCKET)).unwrap();
        assert_eq!(fs::metadata(data.join(SOCKET)).unwrap().permissions().mode() & 0o777, 0o600);
        drop(local);
        let left: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [LOCK]);
    }

    #[test]
    fn second_server_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = Local::bind(directory.path()).unwrap();
        let error = Local::bind(directory.path()).err().unwrap().to_string();
        assert!(error.starts_with("another server already uses the directory "), "{error}");
        UnixStream::connect(directory.path().join(SOCKET)).unwrap();
        drop(first);
        assert!(Local::bind(directory.path()).is_ok());
    }

    #[test]
    fn lock_of_another_user_does_not_prevent_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let (data, path) = (directory.path(), directory.path().join(LOCK));
        fs::set_permissions(data, Permissions::from_mode(0o755)).unwrap();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        // A user that can read a file can lock it.
        let foreign = File::open(&path).unwrap();
        flock(&foreign, FlockOperation::LockExclusive).unwrap();
        let local = Local::bind(data).unwrap();
        assert_eq!(fs::metadata(data).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(Local::bind(data), Err(CannotControl::Taken(_))), "the new file is locked");
        drop(local);
        drop(Local::bind(data).unwrap());
    }

    #[test]
    fn server_with_an_open_lock_file_keeps_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        let local = Local::bind(data).unwrap();
        // The mode that earlier versions set.
        fs::set_permissions(data.join(LOCK), Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Local::bind(data), Err(CannotControl::Taken(_))));
        drop(local);
        drop(Local::bind(data).unwrap());
    }
}
