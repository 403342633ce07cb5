//! Cleanup after a forced end: undoes unfinished changes, and completes the others.

use super::provision::abandon;
use crate::{Host, Mount, entry, instance::Instance, lock::locked_to_undo, mount, slug::Slug};
use anyhow::Result;

/// Cleans up after a process of the call `call` with the first parameter `param`.
pub fn cleanup(mount: &Mount, host: &mut impl Host, call: &str, param: Option<&str>) -> Result<()> {
    let process = host.process();
    for name in mount::names(&mount.locks())?.into_iter().filter(|name| name.ends_with(&format!(".{process}"))) {
        mount::remove(&mount.locks().join(name))?;
    }
    if call == "provision" {
        for (slug, version) in mount.made_by(&process)? {
            abandon(mount, host, &slug, &version)?;
        }
    } else if let Some(slug) = param.and_then(|param| param.parse::<Slug>().ok())
        && mount.current(&slug)?.is_some()
    {
        locked_to_undo(mount, host, &slug, |host, _| {
            let Some(version) = mount.current(&slug)? else { return Ok(()) };
            entry::follow(host, &slug, &Instance::read(&mount.directory(&version), &slug)?)
        })?;
    }
    mount.sweep(host.now(), Some(&process))
}
