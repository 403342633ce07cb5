//! Locks, so that one process at a time changes an instance: its link, its containers, its entry among the systems.
//!
//! A lock is a file with a unique name, `SLUG.TIME.PROCESS`. After creating its lock, a process looks for others: if
//! there is one, it removes its own and retries later. Of two processes at the same time, at least the later one sees
//! the other, so that two never proceed. A process renews its lock as long as it holds it; an old one belongs to a
//! process that was killed with the server, and is ignored.

use crate::{
    Host, Mount,
    mount::{Made, names, remove},
    slug::Slug,
};
use anyhow::{Context, Result, bail};
use std::{fs::File, path::PathBuf, time::Duration};

/// Age in milliseconds from which a lock is ignored.
const STALE: u64 = 20_000;
/// Age in milliseconds from which a lock is renewed.
const RENEWED: u64 = 5_000;
/// Longest wait for a lock, in milliseconds. A stale lock is ignored by then.
const PATIENCE: u64 = 40_000;

/// The lock of one instance, held by this process.
#[derive(Debug)]
pub struct Lock {
    place: PathBuf,
    slug: Slug,
    at: u64,
    /// The previous file is kept until the next renewal: a process that lists the locks meanwhile sees one of the two.
    files: Vec<PathBuf>,
}

impl Lock {
    /// Renews the lock, if that is due. Needed at least every 20 seconds. Fails if that was forgotten.
    pub fn keep(&mut self, host: &impl Host) -> Result<()> {
        let now = host.now().0;
        if now >= self.at + STALE {
            bail!("the lock of {} was lost: the machine was too busy, or slept; try again", self.slug);
        }
        if now >= self.at + RENEWED {
            let file = self.place.join(Made::name(self.slug.as_str(), host));
            File::create(&file).with_context(|| format!("cannot lock {}", self.slug))?;
            self.at = now;
            self.files.push(file);
            while self.files.len() > 2 {
                remove(&self.files.remove(0))?;
            }
        }
        Ok(())
    }

    fn release(self) -> Result<()> {
        self.files.iter().try_for_each(|file| remove(file))
    }
}

/// Runs `action` with the lock of `slug`. A cancel ends the wait.
pub fn locked<H: Host, T>(
    mount: &Mount,
    host: &mut H,
    slug: &Slug,
    action: impl FnOnce(&mut H, &mut Lock) -> Result<T>,
) -> Result<T> {
    hold(mount, host, slug, H::go_on, action)
}

/// Runs `action` like [`locked`], but a cancel does not end the wait: for undoing changes after a cancel.
pub fn locked_to_undo<H: Host, T>(
    mount: &Mount,
    host: &mut H,
    slug: &Slug,
    action: impl FnOnce(&mut H, &mut Lock) -> Result<T>,
) -> Result<T> {
    hold(mount, host, slug, |_| Ok(()), action)
}

fn hold<H: Host, T>(
    mount: &Mount,
    host: &mut H,
    slug: &Slug,
    may_wait: impl Fn(&H) -> Result<()>,
    action: impl FnOnce(&mut H, &mut Lock) -> Result<T>,
) -> Result<T> {
    let begun = host.now().0;
    let mut lock = loop {
        let at = host.now().0;
        let name = Made::name(slug.as_str(), host);
        let file = mount.locks().join(&name);
        File::create_new(&file).with_context(|| format!("cannot lock {slug}"))?;
        match others(mount, host, slug) {
            Ok(false) => break Lock { place: mount.locks(), slug: slug.clone(), at, files: vec![file] },
            Ok(true) => remove(&file)?,
            Err(error) => {
                remove(&file)?;
                return Err(error);
            }
        }
        may_wait(host)?;
        if host.now().0 > begun + PATIENCE {
            bail!("{slug} is busy: another call changes it; try again later");
        }
        // A random delay keeps processes from retrying at the same moment.
        let mut dice = [0];
        host.random(&mut dice);
        host.pause(Duration::from_millis(5 + u64::from(dice[0])));
        may_wait(host)?;
    };
    let done = action(host, &mut lock);
    lock.release()?;
    done
}

/// Tells whether another process has a lock.
fn others(mount: &Mount, host: &impl Host, slug: &Slug) -> Result<bool> {
    let (now, own) = (host.now().0, host.process());
    let alive = |name: &String| {
        Made::read(name).is_some_and(|it| it.what == slug.as_str() && it.at.0 + STALE > now && it.by != own)
    };
    Ok(names(&mount.locks())?.iter().any(alive))
}
