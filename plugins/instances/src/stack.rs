//! The containers of an instance, as the engine has them in fact.

use crate::{
    Host,
    compose::Compose,
    files,
    host::Input,
    lock::Lock,
    service::{self, Service, Summary},
    slug::Slug,
    template::{self, Hook, Template},
};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{collections::BTreeSet, path::Path, time::Duration};

/// Interval of the questions whether all services are healthy.
const LOOK: Duration = Duration::from_millis(500);
/// Lines of the log of a service that has failed.
const LAST_LINES: &str = "20";

/// Returns the services of the stack that an instance should have.
pub fn expected(directory: &Path) -> Result<BTreeSet<String>> {
    let profiles = files::read_env(directory)?;
    template::services(directory, profiles.get("COMPOSE_PROFILES").unwrap_or_default())
}

/// Returns the services that have a container, and all `expected` ones.
pub fn services<H: Host>(
    host: &mut H,
    lock: Option<&mut Lock>,
    slug: &Slug,
    expected: &BTreeSet<String>,
) -> Result<Vec<Service>> {
    let output = Compose::new("ps", slug).output(host, lock)?;
    Ok(service::complete(service::read(&output)?, expected))
}

/// Fails if a container could write files.
pub fn refuse_up<H: Host>(host: &mut H, lock: Option<&mut Lock>, slug: &Slug) -> Result<()> {
    let up = services(host, lock, slug, &BTreeSet::new())?.into_iter().find(|it| it.state.is_up());
    match up {
        Some(service) => bail!("{slug} is running ({service}): stop it first"),
        None => Ok(()),
    }
}

/// Starts all services, and waits until they are healthy.
pub fn up<H: Host>(
    host: &mut H,
    lock: &mut Lock,
    slug: &Slug,
    directory: &Path,
    patience: Duration,
) -> Result<Vec<Service>> {
    let expected = expected(directory).with_context(|| format!("{slug} is broken"))?;
    host.say("starting its containers");
    Compose::new("up", slug).run(host, Some(lock), Input::Empty)?;
    host.say("waiting until all services are healthy");
    let until = host.now().0 + patience.as_millis() as u64;
    loop {
        let services = services(host, Some(lock), slug, &expected)?;
        if services.iter().all(|it| it.state.is_ready()) {
            return Ok(services);
        }
        let is_late = host.now().0 >= until;
        if let Some(failed) = services.iter().find(|it| it.state.has_failed() || is_late && !it.state.is_ready()) {
            tail(host, lock, slug, failed)?;
            match is_late {
                true => bail!("{slug} is not healthy after {} s: {failed}", patience.as_secs()),
                false => bail!("{slug} is not healthy: {failed}"),
            }
        }
        host.pause(LOOK);
        host.go_on()?;
        lock.keep(host)?;
    }
}

/// Sends the end of the log of a service that has failed.
fn tail<H: Host>(host: &mut H, lock: &mut Lock, slug: &Slug, failed: &Service) -> Result<()> {
    let tail = Compose { service: &failed.service, text: LAST_LINES, ..Compose::new("tail", slug) };
    // The log explains the failure, and is not needed to report it.
    if let Err(error) = tail.run(host, Some(lock), Input::Empty) {
        host.go_on()?;
        host.say(&format!("the log of {} cannot be read: {error:#}", failed.service));
    }
    Ok(())
}

/// Stops all services and removes their containers. Fails if one still runs. Volumes stay.
pub fn down<H: Host>(host: &mut H, lock: &mut Lock, slug: &Slug, undoes: bool) -> Result<()> {
    Compose { undoes, ..Compose::new("down", slug) }.run(host, Some(lock), Input::Empty)?;
    let ps = Compose { undoes, ..Compose::new("ps", slug) };
    match service::read(&ps.output(host, Some(lock))?)?.into_iter().find(|it| it.state.is_up()) {
        Some(service) => bail!("{slug} is not down: {service}"),
        None => Ok(()),
    }
}

/// Removes all containers, networks and volumes. Fails if something is left.
pub fn remove<H: Host>(host: &mut H, lock: &mut Lock, slug: &Slug, undoes: bool) -> Result<()> {
    Compose { undoes, ..Compose::new("remove", slug) }.run(host, Some(lock), Input::Empty)?;
    match left(host, lock, slug, undoes)?.as_slice() {
        [] => Ok(()),
        left => bail!("{slug} is not removed, its engine still has {}", left.join(", ")),
    }
}

/// Returns the containers, networks and volumes of an instance.
pub fn left<H: Host>(host: &mut H, lock: &mut Lock, slug: &Slug, undoes: bool) -> Result<Vec<String>> {
    let output = Compose { undoes, ..Compose::new("left", slug) }.output(host, Some(lock))?;
    Ok(output.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect())
}

/// Makes the images of a stack that are built on this machine.
pub fn build<H: Host>(host: &mut H, lock: &mut Lock, slug: &Slug) -> Result<()> {
    host.say("building its images");
    Compose::new("build", slug).run(host, Some(lock), Input::Empty)
}

/// Runs a hook of the template, and sends its lines to the client.
pub fn run_hook<H: Host>(host: &mut H, lock: &mut Lock, slug: &Slug, name: &str, hook: &Hook) -> Result<()> {
    host.say(&format!("running the hook {name}"));
    let run = Compose::exec(slug, &hook.service, &hook.run).run(host, Some(lock), Input::Empty);
    run.with_context(|| format!("the hook {name} of {slug} failed"))
}

/// Loads the dumps of a snapshot into the running services, and removes them.
pub fn load<H: Host>(host: &mut H, lock: &mut Lock, slug: &Slug, directory: &Path, template: &Template) -> Result<()> {
    let dumps = directory.join(crate::archive::DUMPS);
    for (name, dump) in template.dumps(&expected(directory)?) {
        let file = dumps.join(name);
        // A snapshot of a stopped instance has directories instead.
        if !std::fs::symlink_metadata(&file).is_ok_and(|it| it.is_file()) {
            continue;
        }
        host.say(&format!("loading {name}"));
        let mut content = std::fs::File::open(&file).with_context(|| format!("{name} cannot be read"))?;
        let exec = Compose::exec(slug, &dump.service, &dump.load);
        exec.run(host, Some(lock), Input::Content(&mut content)).with_context(|| format!("{name} cannot be loaded"))?;
    }
    match std::fs::remove_dir_all(&dumps) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("cannot delete the dumps"),
        _ => Ok(()),
    }
}

/// Sends a line for each service.
pub fn say(host: &mut impl Host, services: &[Service]) {
    for service in services {
        host.say(&format!("  {service}"));
    }
}

/// Returns the state of a stack, for programs.
pub fn value(slug: &Slug, url: &str, services: &[Service]) -> Value {
    json!({ "slug": slug.as_str(), "url": url, "state": Summary::of(services), "services": services })
}
