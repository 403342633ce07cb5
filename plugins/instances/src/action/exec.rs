//! `exec`: runs a command in a service of an instance, with the input of the client.

use crate::{
    Host, Mount,
    compose::Compose,
    host::{Event, Input},
    instance::Instance,
    slug::Slug,
};
use anyhow::{Context, Result};
use serde_json::json;

/// Runs `command` in `service`, or in the one that the template names. Returns the exit status of the command.
pub fn exec(mount: &Mount, host: &mut impl Host, slug: &Slug, command: &str, service: Option<&str>) -> Result<i32> {
    let directory = mount.directory(&mount.existing(slug)?);
    let instance = Instance::read_whole(&directory, slug)?;
    let template = mount.templates().read(&instance.template)?;
    let service = service.filter(|it| !it.is_empty()).or(template.shell());
    let service = service.with_context(|| format!("the template {} has no shell: name a service", template.name))?;
    let status = host.compose(&Compose::exec(slug, service, command), Input::Client, &mut |host, event| {
        if let Event::Output(bytes) | Event::Error(bytes) = event {
            host.pass(bytes);
        }
        Ok(())
    })?;
    host.set_value(&json!({ "slug": slug.as_str(), "service": service, "status": status }));
    Ok(status)
}
