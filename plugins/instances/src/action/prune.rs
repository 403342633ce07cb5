//! `prune`: removes old snapshots, of one instance or of all, also of purged ones.

use super::snapshot::{EXTENSION, of_instance};
use crate::{
    Host, Mount,
    lock::locked,
    moment::Moment,
    mount::{names, remove, settle},
    retention::Retention,
    slug::Slug,
};
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;

/// Removes all snapshots that `retention` does not keep, or only names them if `is_dry`.
pub fn prune(
    mount: &Mount,
    host: &mut impl Host,
    slug: Option<&Slug>,
    retention: Retention,
    is_dry: bool,
) -> Result<()> {
    mount.sweep(host.now(), None)?;
    let mut all: BTreeMap<Slug, Vec<(Moment, String)>> = BTreeMap::new();
    for name in names(&mount.snapshots())? {
        if let Some((of, at)) = of_instance(&name).filter(|(of, _)| slug.is_none_or(|slug| slug == of)) {
            all.entry(of).or_default().push((at, name));
        }
    }
    let (mut kept, mut removed) = (0, 0);
    for (slug, snapshots) in &all {
        host.go_on()?;
        let (keep, old) = retention.split(snapshots);
        kept += keep.len();
        removed += old.len();
        host.say(&format!(
            "{slug}: {} kept, {} {}",
            keep.len(),
            old.len(),
            if is_dry { "to remove" } else { "removed" }
        ));
        locked(mount, host, slug, |host, lock| {
            for name in old {
                host.go_on()?;
                lock.keep(host)?;
                host.say(&format!("  {name}"));
                if !is_dry {
                    // The archive first: a checksum without an archive is no snapshot, and goes with the next one.
                    remove(&mount.snapshots().join(name))?;
                    remove(&mount.snapshots().join(format!("{name}.sha256")))?;
                }
            }
            Ok(())
        })?;
    }
    if !is_dry {
        remove_orphans(mount)?;
        settle(&mount.snapshots())?;
    }
    host.set_value(&json!({ "kept": kept, "removed": if is_dry { 0 } else { removed } }));
    Ok(())
}

/// Removes checksums whose archive is gone. One without an archive yet is hidden.
fn remove_orphans(mount: &Mount) -> Result<()> {
    let all = names(&mount.snapshots())?;
    for name in &all {
        let archive = name.strip_suffix(".sha256").filter(|archive| archive.ends_with(EXTENSION));
        let is_old = |archive: &str| of_instance(archive).is_some();
        if archive.is_some_and(|archive| is_old(archive) && !mount.snapshots().join(archive).exists()) {
            remove(&mount.snapshots().join(name))?;
        }
    }
    Ok(())
}
