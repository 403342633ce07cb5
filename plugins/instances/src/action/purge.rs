//! `purge`: removes an instance with all its data, after the slug was typed again. Its snapshots stay.

use crate::{Host, Mount, entry, instance::Instance, lock::locked, slug::Slug};
use anyhow::{Result, bail};
use serde_json::json;

pub fn purge(mount: &Mount, host: &mut impl Host, slug: &Slug) -> Result<()> {
    mount.sweep(host.now(), None)?;
    mount.existing(slug)?;
    host.say(&format!("{slug} will be removed with all its data; its snapshots stay"));
    let answer = host.ask(&format!("Type {slug} to go on: "))?;
    host.go_on()?;
    if answer != slug.as_str() {
        bail!("that is not {slug}: nothing was purged");
    }
    let version = locked(mount, host, slug, |host| {
        // Another process can have purged it meanwhile.
        let version = mount.existing(slug)?;
        let instance = Instance::read(&mount.directory(&version), slug);
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
