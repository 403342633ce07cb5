//! `stop`: stops the containers of an instance, and removes them. Its volumes and files stay.

use super::start::save;
use crate::{
    Host, Mount, entry,
    instance::{Instance, State},
    lock::locked,
    slug::Slug,
    stack,
};
use anyhow::Result;

pub fn stop(mount: &Mount, host: &mut impl Host, slug: &Slug) -> Result<()> {
    mount.sweep(host.now(), None)?;
    locked(mount, host, slug, |host, lock| {
        let directory = mount.directory(&mount.existing(slug)?);
        let mut instance = Instance::read_whole(&directory, slug)?;
        host.say("stopping its containers");
        stack::down(host, lock, slug, false)?;
        instance.place(slug, host.domain().as_deref())?;
        save(host, &directory, &mut instance, State::Stopped)?;
        entry::follow(host, slug, &instance)?;
        let services = stack::services(host, Some(lock), slug, &stack::expected(&directory)?)?;
        host.say(&format!("{slug} is stopped"));
        stack::say(host, &services);
        host.set_value(&stack::value(slug, &instance.url, &services));
        Ok(())
    })
}
