//! `instance_log`: follows the logs of all services of an instance, across stops and starts.

use crate::{
    Host, Mount,
    compose::Compose,
    host::{Event, Input},
    slug::Slug,
    stack,
};
use anyhow::Result;
use std::{collections::BTreeSet, time::Duration};

/// Interval of the questions whether an instance without containers has some.
const LOOK: Duration = Duration::from_secs(2);

/// Sends the last `lines` and all new ones, until the call is cancelled or the instance is purged.
pub fn log(mount: &Mount, host: &mut impl Host, slug: &Slug, lines: &str) -> Result<()> {
    let mut lines = lines;
    loop {
        mount.existing(slug)?;
        let services = stack::services(host, None, slug, &BTreeSet::new());
        if host.is_cancelled() {
            return Ok(());
        }
        if services?.iter().any(|it| it.state.is_up()) {
            follow(host, slug, lines)?;
            // Containers of a later start are new ones.
            lines = "all";
        }
        if host.is_cancelled() {
            return Ok(());
        }
        host.pause(LOOK);
        if host.is_cancelled() {
            return Ok(());
        }
    }
}

/// Sends the logs of the containers, until they end or the call is cancelled.
fn follow(host: &mut impl Host, slug: &Slug, lines: &str) -> Result<()> {
    let command = Compose { text: lines, ..Compose::new("logs", slug) };
    let mut last = String::new();
    let status = host.compose(&command, Input::Empty, &mut |host, event| {
        match event {
            Event::Output(bytes) => host.pass(bytes),
            Event::Error(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                if let Some(line) = text.lines().rfind(|line| !line.trim().is_empty()) {
                    line.trim().clone_into(&mut last);
                }
            }
            Event::Tick => {}
        }
        Ok(())
    });
    if host.is_cancelled() {
        return Ok(());
    }
    command.check((status?, last))
}
