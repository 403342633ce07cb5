//! `cron`: runs the hook `cron` of the template in running instances. A failure does not stop it.

use crate::{
    Host, Mount,
    compose::Compose,
    host::Input,
    instance::{Instance, State},
    slug::Slug,
};
use anyhow::{Context, Result, bail};
use serde_json::json;

/// Failures in the value of the call; the output names all.
const NAMED: usize = 50;

/// Runs the hook of one instance, or of all that should run.
pub fn cron(mount: &Mount, host: &mut impl Host, slug: Option<&Slug>) -> Result<()> {
    mount.sweep(host.now(), None)?;
    if let Some(slug) = slug {
        let ran = run(mount, host, slug, true)?;
        host.say(&format!("{slug}: {}", if ran { "done" } else { "there is nothing to do" }));
        host.set_value(&json!({ "instances": u8::from(ran), "failed": 0, "failures": [] }));
        return Ok(());
    }
    let (mut ran, mut failed) = (0, Vec::new());
    for slug in mount.instances()? {
        match run(mount, host, &slug, false) {
            Ok(true) => {
                ran += 1;
                host.say(&format!("{slug}: done"));
            }
            Ok(false) => {}
            Err(error) => {
                host.go_on()?;
                ran += 1;
                host.say(&format!("{slug}: failed: {error:#}"));
                failed.push(slug.to_string());
            }
        }
        host.go_on()?;
    }
    let named: Vec<_> = failed.iter().take(NAMED).map(String::as_str).collect();
    host.set_value(&json!({ "instances": ran, "failed": failed.len(), "failures": named }));
    if !failed.is_empty() {
        bail!("{} of {ran} failed: {}", failed.len(), named.join(", "));
    }
    Ok(())
}

/// Runs the hook. Returns whether there is one to run.
fn run(mount: &Mount, host: &mut impl Host, slug: &Slug, is_named: bool) -> Result<bool> {
    let directory = mount.directory(&mount.existing(slug)?);
    let instance = Instance::read(&directory, slug)?;
    if instance.state != State::Running {
        return if is_named { bail!("{slug} is stopped: start it first") } else { Ok(false) };
    }
    let template = mount.templates().read(&instance.template)?;
    let Some(hook) = &template.hooks().cron else { return Ok(false) };
    let exec = Compose::exec(slug, &hook.service, &hook.run);
    exec.run(host, None, Input::Empty).with_context(|| format!("the hook cron of {slug}"))?;
    Ok(true)
}
