//! `rebuild`: replaces the compose file of an instance, and the values in its `.env` that are not secret. Settings,
//! secrets and data stay.

use crate::{Host, Mount, entry, form, instance::Instance, lock::locked, slug::Slug, template};
use anyhow::{Result, bail};
use serde_json::json;

pub fn rebuild(mount: &Mount, host: &mut impl Host, slug: &Slug, system: Option<&str>) -> Result<()> {
    let system = system.filter(|json| !json.is_empty()).map(form::system).transpose()?;
    mount.sweep(host.now(), None)?;
    mount.existing(slug)?;
    if let Some((_, ignored)) = system.as_ref().filter(|(_, ignored)| !ignored.is_empty()) {
        host.say(&format!("ignored: {}", ignored.join(", ")));
    }
    locked(mount, host, slug, |host| {
        let directory = mount.directory(&mount.existing(slug)?);
        let mut instance = Instance::read(&directory, slug)?;
        if instance.template != template::VERSION {
            let (has, newest) = (instance.template, template::VERSION);
            bail!("{slug} has version {has} of the template, this server has {newest}: update the instance first");
        }
        if let Some((policy, _)) = system {
            instance.content_security_policy = policy;
        }
        instance.edited = host.now().rfc3339()?;
        template::renew(&directory, &instance, host)?;
        instance.write(&directory)?;
        entry::follow(host, slug, &instance)
    })?;
    host.say(&format!("rebuilt the compose file of {slug}"));
    host.set_value(&json!({ "slug": slug.as_str() }));
    Ok(())
}
