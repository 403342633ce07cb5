//! `update`: brings an instance to the newest version of its template and of its images. Settings, secrets and data
//! stay.

use super::rebuild::apply;
use crate::{Host, Mount, compose::Compose, files, host::Input, instance::Instance, lock::locked, slug::Slug};
use anyhow::{Result, bail};

pub fn update(mount: &Mount, host: &mut impl Host, slug: &Slug) -> Result<()> {
    mount.sweep(host.now(), None)?;
    locked(mount, host, slug, |host, lock| {
        let directory = mount.directory(&mount.existing(slug)?);
        let mut instance = Instance::read_whole(&directory, slug)?;
        let template = mount.templates().read(&instance.template)?;
        let (has, newest) = (instance.version, template.version());
        if has > newest {
            bail!("{slug} has version {has} of its template, and there is only {newest}");
        }
        if has < newest {
            files::renew(&directory, &template, &instance, host)?;
            // Written last: the next update repeats an interrupted one.
            instance.version = newest;
            instance.edited = host.now().rfc3339()?;
            instance.write(&directory)?;
            host.say(&format!("updated the files of {slug} from version {has} of its template to {newest}"));
        }
        host.say("getting its images");
        Compose::new("pull", slug).run(host, Some(lock), Input::Empty)?;
        let mut value = apply(host, lock, slug, &directory, &template, &mut instance)?;
        host.say(&format!("{slug} has version {newest} of its template"));
        value["version"] = newest.into();
        host.set_value(&value);
        Ok(())
    })
}
