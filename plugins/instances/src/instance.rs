//! The description of an instance: `instance.json` in its directory. The entry among the systems follows it.

use crate::{Host, mount, mount::Mount, mount::Version, slug::Slug, template::Template};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

pub const FILE: &str = "instance.json";
/// Largest file.
const LONGEST: u64 = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Instance {
    pub slug: String,
    pub template: String,
    /// Version of the template of its files.
    pub version: u32,
    pub flavor: String,
    pub url: String,
    /// The port of this machine that it listens on, if its template has ports.
    pub port: Option<u16>,
    pub state: State,
    /// Params of the template, as a form has set them.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    pub provisioned: String,
    pub edited: String,
    /// Whether the next start loads the dumps of a snapshot.
    #[serde(default)]
    pub restored: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Until its provision is complete.
    Provisioning,
    /// Its containers should run.
    Running,
    /// It has no containers.
    Stopped,
}

impl Instance {
    /// Reads the description of the instance `slug` in `directory`.
    pub fn read(directory: &Path, slug: &Slug) -> Result<Self> {
        let file = directory.join(FILE);
        let size = fs::symlink_metadata(&file).map(|it| it.len());
        if size.with_context(|| format!("{slug} is broken: it has no {FILE}"))? > LONGEST {
            bail!("{slug} is broken: its {FILE} is larger than {LONGEST} bytes");
        }
        let text = fs::read_to_string(file).with_context(|| format!("{slug} is broken: {FILE} cannot be read"))?;
        let instance: Self =
            serde_json::from_str(&text).with_context(|| format!("{slug} is broken: {FILE} is not understood"))?;
        if instance.slug != slug.as_str() {
            bail!("{slug} is broken: its {FILE} is that of {:?}", instance.slug);
        }
        Ok(instance)
    }

    /// Reads the description of a whole instance, whose provision is complete.
    pub fn read_whole(directory: &Path, slug: &Slug) -> Result<Self> {
        let instance = Self::read(directory, slug)?;
        if instance.state == State::Provisioning {
            bail!("the provision of {slug} is not complete: wait for it, or if it was interrupted, provision it again");
        }
        Ok(instance)
    }

    pub fn write(&self, directory: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        mount::write(&directory.join(FILE), text.as_bytes())
    }

    /// Returns the host in its URL.
    pub fn host(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, host)| host)
    }

    /// Sets the URL for this domain: below the domain, or without one on this machine.
    pub fn place(&mut self, slug: &Slug, domain: Option<&str>) -> Result<()> {
        self.url = url(slug, domain, self.port)?;
        Ok(())
    }

    /// Gives it a port of its template that no other instance has, and keeps the one that it has if it can.
    pub fn take_port(
        &mut self,
        mount: &Mount,
        version: &Version,
        template: &Template,
        host: &mut impl Host,
    ) -> Result<()> {
        let Some((from, to)) = template.ports() else {
            self.port = None;
            return Ok(());
        };
        let taken = ports(mount, version, &self.slug)?;
        let is_free = |port: &u16| (from..=to).contains(port) && !taken.contains(port);
        if self.port.as_ref().is_some_and(is_free) {
            return Ok(());
        }
        let free: Vec<u16> = (from..=to).filter(is_free).collect();
        if free.is_empty() {
            bail!("all ports of the template {} are taken: the operator must give it more", template.name);
        }
        let mut dice = [0; 4];
        host.random(&mut dice);
        self.port = Some(free[u32::from_le_bytes(dice) as usize % free.len()]);
        Ok(())
    }
}

/// Returns the ports of all instances but this one, also of those that are being made.
fn ports(mount: &Mount, own: &Version, slug: &str) -> Result<BTreeSet<u16>> {
    #[derive(Deserialize)]
    struct Port {
        slug: String,
        port: Option<u16>,
    }
    let port = |version: Version| {
        let text = fs::read_to_string(mount.directory(&version).join(FILE)).ok()?;
        let found = serde_json::from_str::<Port>(&text).ok()?;
        // The previous content of a restored instance keeps no port from it.
        found.port.filter(|_| found.slug != slug)
    };
    Ok(mount.versions()?.into_iter().filter(|version| version != own).filter_map(port).collect())
}

fn url(slug: &Slug, domain: Option<&str>, port: Option<u16>) -> Result<String> {
    let Some(domain) = domain else {
        return Ok(match port {
            Some(port) => format!("http://127.0.0.1:{port}"),
            None => format!("http://{slug}.localhost"),
        });
    };
    let label = |label: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(plain)
    };
    if !domain.split('.').all(label) {
        bail!("INSTANCES_DOMAIN is {domain:?}, which is not a domain: set it to one such as instances.example.org");
    }
    Ok(format!("https://{slug}.{domain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        Instance {
            slug: "coins".to_owned(),
            template: "static".to_owned(),
            version: 1,
            flavor: "Static".to_owned(),
            url: "http://coins.localhost".to_owned(),
            port: None,
            state: State::Running,
            params: BTreeMap::new(),
            provisioned: "2026-01-31T12:00:00Z".to_owned(),
            edited: "2026-01-31T12:00:00Z".to_owned(),
            restored: false,
        }
    }

    #[test]
    fn instance_is_read_as_written() {
        let directory = tempfile::tempdir().unwrap();
        let instance = instance();
        instance.write(directory.path()).unwrap();
        assert_eq!(Instance::read(directory.path(), &"coins".parse().unwrap()).unwrap(), instance);
        let error = Instance::read(directory.path(), &"other".parse().unwrap()).unwrap_err().to_string();
        assert_eq!(error, "other is broken: its instance.json is that of \"coins\"");
        Instance { state: State::Provisioning, ..instance }.write(directory.path()).unwrap();
        let error = Instance::read_whole(directory.path(), &"coins".parse().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("the provision of coins is not complete"), "{error}");
    }

    #[test]
    fn invalid_instance_is_broken() {
        let directory = tempfile::tempdir().unwrap();
        let read = || Instance::read(directory.path(), &"coins".parse().unwrap()).unwrap_err().to_string();
        assert_eq!(read(), "coins is broken: it has no instance.json");
        fs::write(directory.path().join(FILE), "{}").unwrap();
        assert_eq!(read(), "coins is broken: instance.json is not understood");
        fs::write(directory.path().join(FILE), [b' '; 70_000]).unwrap();
        assert_eq!(read(), "coins is broken: its instance.json is larger than 65536 bytes");
    }

    #[test]
    fn url_is_below_a_domain_or_on_this_machine() {
        let slug = "coins".parse().unwrap();
        let placed = |domain, port| url(&slug, domain, port);
        assert_eq!(placed(None, None).unwrap(), "http://coins.localhost");
        assert_eq!(placed(None, Some(20000)).unwrap(), "http://127.0.0.1:20000");
        assert_eq!(placed(Some("example.org"), Some(20000)).unwrap(), "https://coins.example.org");
        for domain in ["", "a b", "a/b", "a..b", "-a", "A.org", "a`) || Host(`b", "a:80"] {
            assert!(placed(Some(domain), None).is_err(), "{domain:?}");
        }
    }
}
