//! `provision`: creates an instance, and waits until it is healthy. Its files are made aside; an incomplete instance is
//! removed with its containers.

use crate::{
    Host, Mount, entry,
    files::{self, read_env},
    form::Form,
    instance::{Instance, State},
    lock::{Lock, locked, locked_to_undo},
    mount::{Version, settle},
    slug::Slug,
    stack,
    template::Template,
};
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// Attempts to get a port, if other provisions take the same at the same moment.
const ATTEMPTS: usize = 20;

pub fn provision(mount: &Mount, host: &mut impl Host, form: &str) -> Result<()> {
    let Form { slug, flavor, system, mut ignored } = Form::read(form)?;
    let (template, flavor) = mount.templates().choose(flavor.as_deref())?;
    let (params, unknown) = template.params(system)?;
    ignored.extend(unknown);
    mount.sweep(host.now(), None)?;
    refuse_taken(mount, host, &slug)?;
    host.say(&format!("provisioning {slug} with {}", flavor.name));
    if !ignored.is_empty() {
        host.say(&format!("ignored: {}", ignored.join(", ")));
    }
    let now = host.now().rfc3339()?;
    let mut instance = Instance {
        slug: slug.to_string(),
        template: template.name.clone(),
        version: template.version(),
        flavor: flavor.name,
        url: String::new(),
        port: None,
        state: State::Provisioning,
        params,
        provisioned: now.clone(),
        edited: now,
        restored: false,
    };
    instance.place(&slug, host.domain().as_deref())?;
    let version = mount.begin(&slug, host)?;
    let made = make(mount, host, &slug, &version, &template, &mut instance);
    // A cancel up to here leaves nothing behind.
    let made = made.and_then(|()| host.go_on());
    if let Err(error) = made {
        return match abandon(mount, host, &slug, &version) {
            Ok(()) => Err(error),
            Err(undo) => bail!("{error:#}; what was made could not be removed: {undo:#}: purge {slug}"),
        };
    }
    made
}

fn make(
    mount: &Mount,
    host: &mut impl Host,
    slug: &Slug,
    version: &Version,
    template: &Template,
    instance: &mut Instance,
) -> Result<()> {
    let directory = mount.directory(version);
    host.go_on()?;
    for _ in 0..ATTEMPTS {
        let before = instance.port;
        instance.take_port(mount, version, template, host)?;
        // Written before others are looked for, so that of two provisions at least the later one sees the other.
        instance.place(slug, host.domain().as_deref())?;
        instance.write(&directory)?;
        if instance.port == before {
            break;
        }
    }
    files::make(&directory, template, instance, host)?;
    settle(&directory)?;
    host.go_on()?;
    locked(mount, host, slug, |host, lock| {
        take_name(mount, host, lock, slug)?;
        mount.publish(slug, version)?;
        let services = stack::up(host, lock, slug, &directory, template.ready())?;
        stack::say(host, &services);
        if let Some(hook) = &template.hooks().provisioned {
            stack::run_hook(host, lock, slug, "provisioned", hook)?;
        }
        lock.keep(host)?;
        instance.state = State::Running;
        instance.write(&directory)?;
        entry::follow(host, slug, instance)?;
        host.say(&format!("created {slug}: {}", instance.url));
        let mut value = stack::value(slug, &instance.url, &services);
        value["flavor"] = instance.flavor.as_str().into();
        value["credentials"] = credentials(template, &directory)?;
        host.set_value(&value);
        Ok(())
    })
}

fn credentials(template: &Template, directory: &std::path::Path) -> Result<Value> {
    let env = read_env(directory)?;
    let credentials = template.credentials().iter();
    let credentials = credentials.map(|(name, key)| (name.clone(), env.get(key).unwrap_or_default().into()));
    Ok(Value::Object(credentials.collect::<Map<_, _>>()))
}

fn refuse_taken(mount: &Mount, host: &impl Host, slug: &Slug) -> Result<()> {
    let system = entry::find(host, slug)?.is_some();
    match mount.current(slug) {
        Ok(None) if system => bail!("there is a system {slug} already, which is not an instance: choose another slug"),
        Ok(None) => Ok(()),
        // Another process is at it, or it was killed with the server. Only the lock can tell.
        Ok(Some(version)) if is_unfinished(mount, slug, &version) => Ok(()),
        // It can have lost its entry when a server was killed.
        Ok(Some(_)) if !system => {
            bail!("there is an instance {slug} already, without an entry among the systems: start or stop it")
        }
        _ => bail!("there is an instance {slug} already: choose another slug"),
    }
}

fn is_unfinished(mount: &Mount, slug: &Slug, version: &Version) -> bool {
    Instance::read(&mount.directory(version), slug).is_ok_and(|it| it.state == State::Provisioning)
}

/// Removes what a provision that was killed with its server has left, also of its containers.
fn take_name<H: Host>(mount: &Mount, host: &mut H, lock: &mut Lock, slug: &Slug) -> Result<()> {
    refuse_taken(mount, host, slug)?;
    if !stack::left(host, lock, slug, false)?.is_empty() {
        host.say("removing what an interrupted provision has left");
        stack::remove(host, lock, slug, false)?;
    }
    // A lock that was lost meanwhile, as the machine slept, belongs to another provision.
    lock.keep(host)?;
    if let Some(version) = mount.current(slug)? {
        mount.withdraw(slug)?;
        mount.discard(&version)?;
    }
    Ok(())
}

/// Removes the results of a provision, even if they are public already, but only its own.
pub(super) fn abandon(mount: &Mount, host: &mut impl Host, slug: &Slug, version: &Version) -> Result<()> {
    let is_current = || mount.current(slug).is_ok_and(|it| it.as_ref() == Some(version));
    if is_current() {
        locked_to_undo(mount, host, slug, |host, lock| {
            if is_current() {
                let instance = Instance::read(&mount.directory(version), slug);
                stack::remove(host, lock, slug, true).context("its containers are not removed")?;
                mount.withdraw(slug)?;
                if let Ok(instance) = instance {
                    entry::take_back(host, slug, &instance)?;
                }
            }
            Ok(())
        })?;
    }
    mount.discard(version)
}
