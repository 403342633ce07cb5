//! `status`: reports the state of each service, as the engine has it.

use crate::{
    Host, Mount,
    instance::{Instance, State},
    service::Summary,
    slug::Slug,
    stack,
};
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Instances in the value of the call; the output has all.
const MOST: usize = 50;

/// Reports one instance, or all. Fails if one cannot be looked at.
pub fn status(mount: &Mount, host: &mut impl Host, slug: Option<&Slug>) -> Result<()> {
    mount.sweep(host.now(), None)?;
    if let Some(slug) = slug {
        let value = of(mount, host, slug)?;
        host.set_value(&value);
        return Ok(());
    }
    let (mut values, mut failed) = (Vec::new(), Vec::new());
    for slug in mount.instances()? {
        match of(mount, host, &slug) {
            Ok(value) => values.push(value),
            Err(error) => {
                host.go_on()?;
                host.say(&format!("{slug}: {error:#}"));
                failed.push(slug.to_string());
            }
        }
    }
    // One line of the list has no services, so that the value stays small.
    values.truncate(MOST);
    values.iter_mut().filter_map(Value::as_object_mut).for_each(|it| _ = it.remove("services"));
    host.set_value(&json!({ "instances": values, "failed": failed }));
    if !failed.is_empty() {
        bail!("{} instances cannot be looked at: {}", failed.len(), failed.join(", "));
    }
    Ok(())
}

fn of(mount: &Mount, host: &mut impl Host, slug: &Slug) -> Result<Value> {
    let directory = mount.directory(&mount.existing(slug)?);
    let instance = Instance::read(&directory, slug);
    // Containers of a broken instance are reported, too.
    let expected = stack::expected(&directory).unwrap_or_else(|_| BTreeSet::new());
    let services = stack::services(host, None, slug, &expected)?;
    let instance = match instance {
        Ok(instance) => instance,
        Err(error) => {
            stack::say(host, &services);
            return Err(error);
        }
    };
    let summary = Summary::of(&services);
    let remark = match (instance.state, summary) {
        (State::Provisioning, _) => ", its provision is not complete",
        (State::Running, Summary::Stopped) => ", although it was started",
        (State::Stopped, Summary::Running | Summary::Degraded) => ", although it was stopped",
        _ => "",
    };
    host.say(&format!("{slug} is {summary}{remark}: {}", instance.url));
    stack::say(host, &services);
    Ok(stack::value(slug, &instance.url, &services))
}
