//! `restore`: brings an instance back to a snapshot. All of it is verified and unpacked aside before the instance
//! changes; then replacing one link makes it the content of the instance. The next start loads its dumps.

use super::snapshot::{EXTENSION, of_instance};
use crate::{
    Host, Mount, archive, entry, files,
    instance::{Instance, State},
    lock::locked,
    mount::{Version, names},
    slug::{Slug, shown},
    stack,
};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::fs::{self, File};

/// Largest checksum file: a valid one has a single line.
const LONGEST_SUMS: u64 = 4096;

pub fn restore(mount: &Mount, host: &mut impl Host, slug: &Slug, which: Option<&str>) -> Result<()> {
    mount.sweep(host.now(), None)?;
    stack::refuse_up(host, None, slug)?;
    let name = choose(mount, slug, which)?;
    host.say(&format!("verifying {name}"));
    let path = mount.snapshots().join(&name);
    let open = || File::open(&path).with_context(|| format!("{name} cannot be read"));
    let refused = || format!("{name} is refused");
    verify_sums(mount, host, &name).with_context(refused)?;
    let manifest = archive::verify(open()?, slug, host).with_context(refused)?;
    host.say(&format!("{} files of {} bytes, all checksums match", manifest.files.len(), manifest.size()));
    let version = mount.begin(slug, host)?;
    let restored = (|| {
        let directory = mount.directory(&version);
        archive::unpack(open()?, slug, &manifest, &directory, host).with_context(refused)?;
        let instance = prepare(mount, host, slug, &version).with_context(refused)?;
        host.go_on()?;
        put_in_place(mount, host, slug, &version, &instance)
    })();
    match restored {
        Ok(old) => {
            host.say(&format!("restored {slug} as of {}; it is stopped", manifest.taken));
            if let Some(old) = old {
                mount.discard(&old)?;
            }
            host.set_value(&json!({ "slug": slug.as_str(), "snapshot": name }));
            Ok(())
        }
        Err(error) => {
            // If only its entry could not be written, the content is in its place.
            if mount.current(slug).is_ok_and(|it| it.as_ref() != Some(&version)) {
                mount.discard(&version)?;
            }
            Err(error)
        }
    }
}

/// Checks the unpacked description, and adapts it to this server: its template, domain and ports.
fn prepare(mount: &Mount, host: &mut impl Host, slug: &Slug, version: &Version) -> Result<Instance> {
    let directory = mount.directory(version);
    let mut instance = Instance::read(&directory, slug)?;
    let template = mount.templates().read(&instance.template)?;
    if instance.version > template.version() {
        bail!("its template is newer than that of this server");
    }
    let flavor = template.flavor(&instance.flavor)?;
    instance.flavor = flavor.name.clone();
    let before = instance.url.clone();
    instance.take_port(mount, version, &template, host)?;
    instance.place(slug, host.domain().as_deref())?;
    if instance.url != before {
        host.say(&format!("its URL is {} now", instance.url));
    }
    instance.state = State::Stopped;
    instance.restored = true;
    instance.edited = host.now().rfc3339()?;
    files::env(&directory, &template, &instance, host)?;
    instance.write(&directory)?;
    Ok(instance)
}

/// Returns the previous version, if there was one.
fn put_in_place(
    mount: &Mount,
    host: &mut impl Host,
    slug: &Slug,
    version: &Version,
    instance: &Instance,
) -> Result<Option<Version>> {
    locked(mount, host, slug, |host, lock| {
        // It can have been started meanwhile.
        stack::refuse_up(host, Some(lock), slug)?;
        lock.keep(host)?;
        let old = mount.current(slug)?;
        if old.is_some() {
            mount.exchange(slug, version)?;
        } else {
            if entry::find(host, slug)?.is_some() {
                bail!("there is a system {slug} already, which is not an instance: remove it first");
            }
            mount.publish(slug, version)?;
        }
        entry::follow(host, slug, instance)?;
        Ok(old)
    })
}

/// A running instance must not lose its files. A broken one does not run.
/// Returns the name of a snapshot of `slug`: the chosen one, or the newest.
fn choose(mount: &Mount, slug: &Slug, which: Option<&str>) -> Result<String> {
    let is_own = |name: &String| of_instance(name).is_some_and(|(of, _)| of == *slug);
    // Their timestamps sort by time.
    let all = names(&mount.snapshots())?.into_iter().filter(is_own);
    match which {
        None => all.max().with_context(|| format!("there is no snapshot of {slug}")),
        Some(which) => {
            let which = which.strip_suffix(EXTENSION).unwrap_or(which);
            all.filter(|name| name.strip_suffix(EXTENSION) == Some(which))
                .max()
                .with_context(|| format!("there is no snapshot {} of {slug}", shown(which)))
        }
    }
}

/// Compares the whole file with its checksum file, which can be missing if the snapshot was copied here.
fn verify_sums(mount: &Mount, host: &mut impl Host, name: &str) -> Result<()> {
    let place = mount.snapshots();
    let sums = place.join(format!("{name}.sha256"));
    let Ok(metadata) = fs::symlink_metadata(&sums) else {
        host.say("the snapshot has no checksum file: only its manifest can show damage");
        return Ok(());
    };
    ensure!(metadata.is_file() && metadata.len() <= LONGEST_SUMS, "its checksum file is invalid");
    let sums = fs::read_to_string(sums).context("its checksum cannot be read")?;
    let found = archive::checksum(File::open(place.join(name)).context("it cannot be read")?, host)?;
    ensure!(sums.split_whitespace().next() == Some(found.as_str()), "its checksum does not match");
    Ok(())
}
