//! `snapshot`: writes an archive of an instance. It is written aside, and appears once it is complete.
//!
//! If the instance runs, its services dump what only they can read consistently.

use crate::{
    Host, Mount,
    archive::{self, DUMPS, Dumps},
    compose::Compose,
    full::Written,
    host::Input,
    instance::Instance,
    manifest::Manifest,
    moment::Moment,
    mount::{Made, remove, settle},
    slug::Slug,
    stack,
};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

pub const EXTENSION: &str = ".tar.gz";

pub struct Taken {
    pub name: String,
    /// In bytes.
    pub size: u64,
    pub manifest: Manifest,
}

pub fn snapshot(mount: &Mount, host: &mut impl Host, slug: &Slug) -> Result<()> {
    mount.sweep(host.now(), None)?;
    host.say(&format!("taking a snapshot of {slug}"));
    let taken = take(mount, host, slug)?;
    for (path, reason) in &taken.manifest.left_out {
        host.say(&format!("left out: {path:?}: {reason}"));
    }
    host.say(&summary(&taken));
    host.set_value(&json!({
        "slug": slug.as_str(),
        "snapshot": taken.name,
        "size": taken.size,
        "files": taken.manifest.files.len(),
    }));
    Ok(())
}

pub(super) fn summary(Taken { name, size, manifest }: &Taken) -> String {
    format!("{name}: {} files of {} bytes, {size} bytes packed", manifest.files.len(), manifest.size())
}

/// Returns the instance and the time in the name of a snapshot.
pub(super) fn of_instance(name: &str) -> Option<(Slug, Moment)> {
    let (slug, stamp) = name.strip_suffix(EXTENSION)?.rsplit_once('-')?;
    Some((slug.parse().ok()?, Moment::of_stamp(stamp)?))
}

/// Takes a snapshot, and leaves nothing behind if that fails.
pub(super) fn take(mount: &Mount, host: &mut impl Host, slug: &Slug) -> Result<Taken> {
    let version = mount.existing(slug)?;
    let directory = mount.directory(&version);
    let instance = Instance::read_whole(&directory, slug)?;
    let mut aside = Vec::new();
    let taken = (|| {
        let (is_up, dumps) = dump(mount, host, slug, &directory, &instance, &mut aside)?;
        let archived = archive(mount, host, slug, &directory, &instance, dumps, &mut aside)?;
        // Files can be gone with the instance, and a service that was started meanwhile has written some of them.
        if mount.current(slug)? != Some(version) || Instance::read(&directory, slug)? != instance {
            bail!("{slug} was changed by another call meanwhile: try again");
        }
        if !is_up {
            stack::refuse_up(host, None, slug)?;
        }
        publish(mount, host, archived)
    })();
    // What has become a snapshot has no hidden name any more.
    aside.iter().try_for_each(|file| remove(file))?;
    taken
}

/// Returns a hidden file among the snapshots, which is removed with `aside`.
fn hidden(mount: &Mount, host: &impl Host, what: &str, aside: &mut Vec<PathBuf>) -> Result<(PathBuf, Written)> {
    let path = mount.snapshots().join(format!(".{}", Made::name(what, host)));
    aside.push(path.clone());
    let file = File::options().read(true).write(true).create_new(true).open(&path);
    Ok((path, Written::new(file.context("the snapshot cannot be written")?, &mount.snapshots())))
}

/// Writes the dumps of a running instance, and returns whether it runs. A stopped one has no need of them.
fn dump(
    mount: &Mount,
    host: &mut impl Host,
    slug: &Slug,
    directory: &Path,
    instance: &Instance,
    aside: &mut Vec<PathBuf>,
) -> Result<(bool, Dumps)> {
    let expected = stack::expected(directory)?;
    let services = stack::services(host, None, slug, &expected)?;
    let template = mount.templates().read(&instance.template)?;
    let mut dumps = Dumps::default();
    if !services.iter().any(|it| it.state.is_up()) {
        return Ok((false, dumps));
    }
    if instance.restored {
        bail!("{slug} has not loaded its last restore: start it first");
    }
    for (name, dump) in template.dumps(&expected) {
        if let Some(service) = services.iter().find(|it| it.service == dump.service && !it.state.is_ready()) {
            bail!("{slug} is neither running nor stopped ({service}): start or stop it first");
        }
        host.say(&format!("dumping {name}"));
        let (path, mut file) = hidden(mount, host, &format!("dump{}", dumps.files.len()), aside)?;
        let exec = Compose::exec(slug, &dump.service, &dump.dump);
        let status = exec.stream(host, None, Input::Empty, |bytes| {
            file.write_all(bytes).with_context(|| format!("{name} cannot be written"))
        })?;
        exec.check(status).with_context(|| format!("{name} cannot be dumped"))?;
        file.file.sync_all().with_context(|| format!("{name} cannot be written"))?;
        let file = File::open(path).with_context(|| format!("{name} cannot be read"))?;
        dumps.files.push((name.to_owned(), file));
        dumps.instead_of.extend(dump.instead_of.iter().cloned());
        dumps.instead_of.insert(DUMPS.to_owned());
    }
    Ok((true, dumps))
}

/// A complete snapshot under hidden names.
struct Archived {
    archive: PathBuf,
    sums: PathBuf,
    taken: Taken,
}

fn archive(
    mount: &Mount,
    host: &mut impl Host,
    slug: &Slug,
    directory: &Path,
    instance: &Instance,
    dumps: Dumps,
    aside: &mut Vec<PathBuf>,
) -> Result<Archived> {
    let now = host.now();
    let name = format!("{slug}-{}{EXTENSION}", now.stamp()?);
    let (archive, file) = hidden(mount, host, "archive", aside)?;
    let (manifest, content) = archive::write(directory, slug, instance, now.rfc3339()?, dumps, file, host)?;
    let (sums, mut file) = hidden(mount, host, "sums", aside)?;
    // In the format of `sha256sum --check`.
    file.write_all(format!("{}  {name}\n", content.sha256).as_bytes()).context("the checksum cannot be written")?;
    file.file.sync_all().context("the checksum cannot be written")?;
    Ok(Archived { archive, sums, taken: Taken { name, size: content.size, manifest } })
}

fn publish(mount: &Mount, host: &impl Host, Archived { archive, sums, taken }: Archived) -> Result<Taken> {
    let place = mount.snapshots();
    host.go_on()?;
    // The checksum comes first, so that every snapshot has one.
    fs::rename(sums, place.join(format!("{}.sha256", taken.name))).context("the checksum cannot be written")?;
    fs::rename(archive, place.join(&taken.name)).context("the snapshot cannot be written")?;
    settle(&place)?;
    Ok(taken)
}
