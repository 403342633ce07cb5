//! `start` and `stop`: say whether the containers of an instance are to run. Whoever runs them reads that from its
//! `instance.json`; nothing here does.

use crate::{
    Host, Mount, entry,
    instance::{Instance, State},
    lock::locked,
    slug::Slug,
};
use anyhow::Result;
use serde_json::json;

pub fn switch(mount: &Mount, host: &mut impl Host, slug: &Slug, state: State) -> Result<()> {
    mount.sweep(host.now(), None)?;
    let line = locked(mount, host, slug, |host| {
        let directory = mount.directory(&mount.existing(slug)?);
        let mut instance = Instance::read(&directory, slug)?;
        let already = instance.state == state;
        if !already {
            instance.state = state;
            instance.edited = host.now().rfc3339()?;
            instance.write(&directory)?;
        }
        entry::follow(host, slug, &instance)?;
        let name = state.name();
        Ok(if already {
            format!("{slug} is set to {name} already")
        } else {
            format!("{slug} is set to {name}: whatever runs its containers does the rest")
        })
    })?;
    host.say(&line);
    host.set_value(&json!({ "slug": slug.as_str(), "state": state }));
    Ok(())
}
