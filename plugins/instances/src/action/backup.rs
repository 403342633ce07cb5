//! `backup`: takes a snapshot of every instance, one after the other. A failure does not stop it.

use super::snapshot::{summary, take};
use crate::{Host, Mount};
use anyhow::{Result, bail};
use serde_json::json;

/// Failures in the value of the call; the output names all.
const NAMED: usize = 50;

pub fn backup(mount: &Mount, host: &mut impl Host) -> Result<()> {
    mount.sweep(host.now(), None)?;
    let all = mount.instances()?;
    let mut failed = Vec::new();
    for (index, slug) in all.iter().enumerate() {
        host.say(&format!("[{}/{}] {slug}", index + 1, all.len()));
        match take(mount, host, slug) {
            Ok(taken) => host.say(&summary(&taken)),
            Err(error) => {
                // A cancel is not a failure of the instance.
                host.go_on()?;
                host.say(&format!("failed: {error:#}"));
                failed.push((slug, format!("{error:#}")));
            }
        }
        host.go_on()?;
    }
    host.say(&format!("{} of {} backed up", all.len() - failed.len(), all.len()));
    for (slug, why) in &failed {
        host.say(&format!("failed: {slug}: {why}"));
    }
    let named: Vec<_> = failed.iter().take(NAMED).map(|(slug, _)| slug.as_str()).collect();
    host.set_value(&json!({ "instances": all.len(), "failed": failed.len(), "failures": named }));
    if !failed.is_empty() {
        bail!("{} of {} failed: {}", failed.len(), all.len(), named.join(", "));
    }
    Ok(())
}
