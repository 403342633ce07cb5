//! `rebuild`: replaces the files of the template in an instance, builds its images, and if it runs, its containers.
//! Settings, secrets and data stay.

use super::start::bring_up;
use crate::{
    Host, Mount, entry, files, form,
    instance::Instance,
    lock::{Lock, locked},
    slug::Slug,
    stack,
    template::Template,
};
use anyhow::{Result, bail};
use serde_json::Value;
use std::{collections::BTreeSet, path::Path};

pub fn rebuild(mount: &Mount, host: &mut impl Host, slug: &Slug, system: Option<&str>) -> Result<()> {
    let system = system.filter(|json| !json.is_empty()).map(form::system).transpose()?;
    mount.sweep(host.now(), None)?;
    locked(mount, host, slug, |host, lock| {
        let directory = mount.directory(&mount.existing(slug)?);
        let mut instance = Instance::read_whole(&directory, slug)?;
        let template = mount.templates().read(&instance.template)?;
        if instance.version != template.version() {
            let (has, newest) = (instance.version, template.version());
            bail!("{slug} has version {has} of its template, and {newest} is the newest: update the instance first");
        }
        if let Some(system) = system {
            let (params, ignored) = template.params(system)?;
            if !ignored.is_empty() {
                host.say(&format!("ignored: {}", ignored.join(", ")));
            }
            instance.params = params;
        }
        instance.edited = host.now().rfc3339()?;
        files::renew(&directory, &template, &instance, host)?;
        instance.write(&directory)?;
        let value = apply(host, lock, slug, &directory, &template, &mut instance)?;
        host.say(&format!("rebuilt {slug}"));
        host.set_value(&value);
        Ok(())
    })
}

/// Builds the images, and replaces the containers of an instance that runs. Reports the state of each service.
pub(super) fn apply<H: Host>(
    host: &mut H,
    lock: &mut Lock,
    slug: &Slug,
    directory: &Path,
    template: &Template,
    instance: &mut Instance,
) -> Result<Value> {
    // The domain can have changed.
    instance.place(slug, host.domain().as_deref())?;
    files::env(directory, template, instance, host)?;
    instance.write(directory)?;
    stack::build(host, lock, slug)?;
    let before = stack::services(host, Some(lock), slug, &BTreeSet::new())?;
    let services = if before.iter().any(|it| it.state.is_up()) {
        bring_up(host, lock, slug, directory, template, instance)?
    } else {
        entry::follow(host, slug, instance)?;
        stack::services(host, Some(lock), slug, &stack::expected(directory)?)?
    };
    stack::say(host, &services);
    Ok(stack::value(slug, &instance.url, &services))
}
