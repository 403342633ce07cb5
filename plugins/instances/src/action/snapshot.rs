//! `snapshot`: writes an archive of an instance. It is written aside, and appears once it is complete.

use crate::{
    Host, Mount, archive,
    instance::Instance,
    manifest::Manifest,
    mount::{Made, remove, settle},
    slug::Slug,
};
use anyhow::{Context, Result};
use serde_json::json;
use std::{
    fs::{self, File},
    io::Write,
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

/// Takes a snapshot, and leaves nothing behind if that fails.
pub(super) fn take(mount: &Mount, host: &mut impl Host, slug: &Slug) -> Result<Taken> {
    let version = mount.existing(slug)?;
    let directory = mount.directory(&version);
    let instance = Instance::read(&directory, slug)?;
    let now = host.now();
    let name = format!("{slug}-{}{EXTENSION}", now.stamp()?);
    let sums = format!("{name}.sha256");
    let place = mount.snapshots();
    let aside = place.join(format!(".{}", Made::name("archive", host)));
    let sums_aside = place.join(format!(".{}", Made::name("sums", host)));
    let taken = (|| {
        let file = File::create_new(&aside).context("the snapshot cannot be written")?;
        let (manifest, content) = archive::write(&directory, slug, &instance, now.rfc3339()?, file, host)?;
        let mut file = File::create_new(&sums_aside).context("the checksum cannot be written")?;
        // In the format of `sha256sum --check`.
        file.write_all(format!("{}  {name}\n", content.sha256).as_bytes()).context("the checksum cannot be written")?;
        file.sync_all().context("the checksum cannot be written")?;
        host.go_on()?;
        // The checksum comes first, so that every snapshot has one.
        fs::rename(&sums_aside, place.join(&sums)).context("the checksum cannot be written")?;
        fs::rename(&aside, place.join(&name)).context("the snapshot cannot be written")?;
        settle(&place)?;
        Ok(Taken { name: name.clone(), size: content.size, manifest })
    })();
    if taken.is_err() {
        remove(&aside)?;
        remove(&sums_aside)?;
    }
    taken
}
