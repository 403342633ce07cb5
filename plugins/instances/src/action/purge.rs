//! `purge`: removes an instance with its containers, networks, volumes and data, after the slug was typed again. Its
//! snapshots stay.

use crate::{Host, Mount, entry, instance::Instance, lock::locked, slug::Slug, stack};
use anyhow::{Result, bail};
use serde_json::json;

/// Removes the instance. With `is_confirmed`, without a question.
pub fn purge(mount: &Mount, host: &mut impl Host, slug: &Slug, is_confirmed: bool) -> Result<()> {
    mount.sweep(host.now(), None)?;
    mount.existing(slug)?;
    host.say(&format!("{slug} will be removed with all its data; its snapshots stay"));
    if !is_confirmed {
        let answer = host.ask(&format!("Type {slug} to go on: "))?;
        host.go_on()?;
        if answer != slug.as_str() {
            bail!("that is not {slug}: nothing was purged");
        }
    }
    let version = locked(mount, host, slug, |host, lock| {
        // Another process can have purged it meanwhile.
        let version = mount.existing(slug)?;
        host.say("removing its containers, networks and volumes");
        stack::remove(host, lock, slug, false)?;
        let instance = Instance::read(&mount.directory(&version), slug);
        lock.keep(host)?;
        host.remove_system(slug.as_str())?;
        if let Err(error) = mount.withdraw(slug) {
            if let Ok(instance) = instance {
                entry::follow(host, slug, &instance)?;
            }
            return Err(error);
        }
        Ok(version)
    })?;
    host.say("deleting its files");
    mount.discard(&version)?;
    host.say(&format!("purged {slug}"));
    host.set_value(&json!({ "slug": slug.as_str() }));
    Ok(())
}
