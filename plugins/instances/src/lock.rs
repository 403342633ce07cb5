//! Locks, so that one process at a time changes an instance: its link, its state, its entry among the systems.
//!
//! A lock is a file with a unique name, `SLUG.TIME.PROCESS`. After creating its lock, a process looks for others: if
//! there is one, it removes its own and retries later. Of two processes at the same time, at least the later one sees
//! the other, so that two never proceed. Locks are held briefly; an old one belongs to a process that was killed with
//! the server, and is ignored.

use crate::{
    Host, Mount,
    mount::{Made, names, remove},
    slug::Slug,
};
use anyhow::{Context, Result, bail};
use std::{fs::File, time::Duration};

/// Age in milliseconds from which a lock is ignored.
const STALE: u64 = 20_000;
/// Longest wait for a lock, in milliseconds. A stale lock is ignored by then.
const PATIENCE: u64 = 40_000;

/// Runs `action` with the lock of `slug`. A cancel ends the wait.
pub fn locked<H: Host, T>(
    mount: &Mount,
    host: &mut H,
    slug: &Slug,
    action: impl FnOnce(&mut H) -> Result<T>,
) -> Result<T> {
    hold(mount, host, slug, H::go_on, action)
}

/// Runs `action` like [`locked`], but a cancel does not end the wait: for undoing changes after a cancel.
pub fn locked_to_undo<H: Host, T>(
    mount: &Mount,
    host: &mut H,
    slug: &Slug,
    action: impl FnOnce(&mut H) -> Result<T>,
) -> Result<T> {
    hold(mount, host, slug, |_| Ok(()), action)
}

fn hold<H: Host, T>(
    mount: &Mount,
    host: &mut H,
    slug: &Slug,
    may_wait: impl Fn(&H) -> Result<()>,
    action: impl FnOnce(&mut H) -> Result<T>,
) -> Result<T> {
    let begun = host.now().0;
    let file = loop {
        let name = Made::name(slug.as_str(), host);
        let file = mount.locks().join(&name);
        File::create_new(&file).with_context(|| format!("cannot lock {slug}"))?;
        match others(mount, host, slug, &name) {
            Ok(false) => break file,
            Ok(true) => remove(&file)?,
            Err(error) => {
                remove(&file)?;
                return Err(error);
            }
        }
        may_wait(host)?;
        if host.now().0 > begun + PATIENCE {
            bail!("{slug} is busy: other calls change it all the time; try again later");
        }
        // A random delay keeps processes from retrying at the same moment.
        let mut dice = [0];
        host.random(&mut dice);
        host.pause(Duration::from_millis(5 + u64::from(dice[0])));
        may_wait(host)?;
    };
    let done = action(host);
    remove(&file)?;
    done
}

/// Tells whether another process has a lock.
fn others(mount: &Mount, host: &impl Host, slug: &Slug, own: &str) -> Result<bool> {
    let now = host.now().0;
    let alive = |name: &String| {
        Made::read(name).is_some_and(|it| it.what == slug.as_str() && it.at.0 + STALE > now) && name != own
    };
    Ok(names(&mount.locks())?.iter().any(alive))
}
