//! `start` and `stop`: set whether the containers of an instance should run. The program that runs the containers reads
//! this from `instance.json`.

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
            format!("{slug} is already set to {name}")
        } else {
            format!("{slug} is set to {name}: the container runner applies it")
        })
    })?;
    host.say(&line);
    host.set_value(&json!({ "slug": slug.as_str(), "state": state }));
    Ok(())
}
