//! `start`: starts the containers of an instance, and waits until they are healthy.

use crate::{
    Host, Mount, entry, files,
    instance::{Instance, State},
    lock::{Lock, locked},
    service::Service,
    slug::Slug,
    stack,
    template::Template,
};
use anyhow::Result;
use std::{collections::BTreeSet, path::Path};

pub fn start(mount: &Mount, host: &mut impl Host, slug: &Slug) -> Result<()> {
    mount.sweep(host.now(), None)?;
    locked(mount, host, slug, |host, lock| {
        let directory = mount.directory(&mount.existing(slug)?);
        let mut instance = Instance::read_whole(&directory, slug)?;
        let template = mount.templates().read(&instance.template)?;
        // The domain can have changed since the last start.
        instance.place(slug, host.domain().as_deref())?;
        files::env(&directory, &template, &instance, host)?;
        let services = bring_up(host, lock, slug, &directory, &template, &mut instance)?;
        host.say(&format!("{slug} runs: {}", instance.url));
        stack::say(host, &services);
        host.set_value(&stack::value(slug, &instance.url, &services));
        Ok(())
    })
}

/// Starts an instance, and takes it down again if that is cancelled and it was down before.
pub(super) fn bring_up<H: Host>(
    host: &mut H,
    lock: &mut Lock,
    slug: &Slug,
    directory: &Path,
    template: &Template,
    instance: &mut Instance,
) -> Result<Vec<Service>> {
    let before = stack::services(host, Some(lock), slug, &BTreeSet::new())?;
    let was_up = before.iter().any(|it| it.state.is_up());
    if instance.restored && !was_up {
        // Volumes are of the time before the restore.
        stack::remove(host, lock, slug, false)?;
    }
    // Written first: if this is interrupted, its containers can run.
    save(host, directory, instance, State::Running)?;
    let started = (|| {
        let services = stack::up(host, lock, slug, directory, template.ready())?;
        if instance.restored {
            stack::load(host, lock, slug, directory, template)?;
            instance.restored = false;
            instance.write(directory)?;
        }
        Ok(services)
    })();
    if started.is_err() && host.is_cancelled() && !was_up {
        stack::down(host, lock, slug, true)?;
        save(host, directory, instance, State::Stopped)?;
    }
    entry::follow(host, slug, instance)?;
    started
}

pub(super) fn save(host: &impl Host, directory: &Path, instance: &mut Instance, state: State) -> Result<()> {
    if instance.state != state {
        instance.state = state;
        instance.edited = host.now().rfc3339()?;
    }
    instance.write(directory)
}
