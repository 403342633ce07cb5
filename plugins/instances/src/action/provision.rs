//! `provision`: creates an instance. It is built aside and appears at once; an incomplete one is removed.

use crate::{
    Host, Mount, entry,
    form::Form,
    instance::Instance,
    lock::{locked, locked_to_undo},
    mount::{Version, settle},
    slug::Slug,
    template,
};
use anyhow::{Result, bail};
use serde_json::json;

pub fn provision(mount: &Mount, host: &mut impl Host, form: &str) -> Result<()> {
    let Form { slug, flavor, policy, ignored } = Form::read(form)?;
    mount.sweep(host.now(), None)?;
    refuse_taken(mount, host, &slug)?;
    host.say(&format!("provisioning {slug} with {}", flavor.title()));
    if !ignored.is_empty() {
        host.say(&format!("ignored: {}", ignored.join(", ")));
    }
    let instance = Instance::new(&slug, flavor, policy, host.domain().as_deref(), host.now().rfc3339()?)?;
    let version = mount.begin(&slug, host)?;
    let made = make(mount, host, &slug, &version, &instance);
    if made.is_err() {
        abandon(mount, host, &slug, &version)?;
    }
    made
}

fn make(mount: &Mount, host: &mut impl Host, slug: &Slug, version: &Version, instance: &Instance) -> Result<()> {
    let directory = mount.directory(version);
    host.go_on()?;
    template::make(&directory, instance, host)?;
    instance.write(&directory)?;
    settle(&directory)?;
    host.go_on()?;
    host.say("publishing");
    locked(mount, host, slug, |host| {
        refuse_taken(mount, host, slug)?;
        mount.publish(slug, version)?;
        entry::follow(host, slug, instance)
    })?;
    host.say(&format!("created {slug}: {}", instance.url));
    // A cancel up to here leaves nothing behind.
    host.go_on()?;
    host.set_value(&json!({ "slug": instance.slug, "url": instance.url, "flavor": instance.flavor }));
    Ok(())
}

fn refuse_taken(mount: &Mount, host: &impl Host, slug: &Slug) -> Result<()> {
    let system = entry::find(host, slug)?.is_some();
    match mount.current(slug) {
        Ok(None) if system => bail!("there is a system {slug} already, which is not an instance: choose another slug"),
        Ok(None) => Ok(()),
        // It can have lost its entry when a server was killed.
        Ok(Some(_)) if !system => {
            bail!("there is an instance {slug} already, without an entry among the systems: start or stop it")
        }
        _ => bail!("there is an instance {slug} already: choose another slug"),
    }
}

/// Removes the results of a provision, even if they are public already, but only its own.
pub(super) fn abandon(mount: &Mount, host: &mut impl Host, slug: &Slug, version: &Version) -> Result<()> {
    let is_current = || mount.current(slug).is_ok_and(|it| it.as_ref() == Some(version));
    if is_current() {
        locked_to_undo(mount, host, slug, |host| {
            if is_current() {
                let instance = Instance::read(&mount.directory(version), slug);
                mount.withdraw(slug)?;
                if let Ok(instance) = instance {
                    entry::take_back(host, slug, &instance)?;
                }
            }
            Ok(())
        })?;
    }
    mount.discard(version)
}
