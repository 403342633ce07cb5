//! One process at a time changes what an instance is: its link, its state, its entry among the systems.
//!
//! A lock is a file with a name of its own, `SLUG.TIME.PROCESS`. Who has made one looks whether there is another: then it
//! takes its own back and tries again later. Of two that come at once at least the later one sees the other, so that
//! never two go on. It is held for moments only; one that is older belongs to a process that was killed together with the
//! server, and nobody heeds it.

use crate::{
    Host, Mount,
    mount::{Made, names, remove},
    slug::Slug,
};
use anyhow::{Context, Result, bail};
use std::{fs::File, time::Duration};

/// A lock that is older is heeded no more, in milliseconds.
const STALE: u64 = 20_000;
/// How long to wait for a lock; a stale one is older by then.
const PATIENCE: u64 = 40_000;

/// Does `action` while nobody else changes `slug`. Whoever is cancelled does not wait for it.
pub fn locked<H: Host, T>(
    mount: &Mount,
    host: &mut H,
    slug: &Slug,
    action: impl FnOnce(&mut H) -> Result<T>,
) -> Result<T> {
    hold(mount, host, slug, H::go_on, action)
}

/// The same for whoever puts things right after a cancel, and so waits nevertheless.
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
        // Not all at the same moment again.
        let mut dice = [0];
        host.random(&mut dice);
        host.pause(Duration::from_millis(5 + u64::from(dice[0])));
        may_wait(host)?;
    };
    let done = action(host);
    remove(&file)?;
    done
}

/// Whether someone else has a lock.
fn others(mount: &Mount, host: &impl Host, slug: &Slug, own: &str) -> Result<bool> {
    let now = host.now().0;
    let alive = |name: &String| {
        Made::read(name).is_some_and(|it| it.what == slug.as_str() && it.at.0 + STALE > now) && name != own
    };
    Ok(names(&mount.locks())?.iter().any(alive))
}
