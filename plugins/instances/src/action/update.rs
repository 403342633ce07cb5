//! `update`: brings an instance to the newest version of the template. Settings, secrets and data stay.

use crate::{Host, Mount, entry, instance::Instance, lock::locked, slug::Slug, template};
use anyhow::{Result, bail};
use serde_json::json;

pub fn update(mount: &Mount, host: &mut impl Host, slug: &Slug) -> Result<()> {
    mount.sweep(host.now(), None)?;
    let line = locked(mount, host, slug, |host| {
        let directory = mount.directory(&mount.existing(slug)?);
        let mut instance = Instance::read(&directory, slug)?;
        let (has, newest) = (instance.template, template::VERSION);
        if has > newest {
            bail!("{slug} has version {has} of the template, this server only has {newest}");
        }
        if has < newest {
            template::renew(&directory, &instance, host)?;
            // Written last: the next update repeats an interrupted one.
            instance.template = newest;
            instance.edited = host.now().rfc3339()?;
            instance.write(&directory)?;
        }
        entry::follow(host, slug, &instance)?;
        Ok(if has < newest {
            format!("updated {slug} from version {has} of the template to {newest}")
        } else {
            format!("{slug} already has the newest version of the template: {newest}")
        })
    })?;
    host.say(&line);
    host.set_value(&json!({ "slug": slug.as_str(), "template": template::VERSION }));
    Ok(())
}
