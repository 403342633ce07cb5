//! The description of an instance: `instance.json` in its directory. The entry among the systems follows it, and so
//! does the program that runs its containers.

use crate::{flavor::Flavor, mount, policy::Policy, slug::Slug, template};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

pub const FILE: &str = "instance.json";
/// Largest file.
const LONGEST: u64 = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Instance {
    pub slug: String,
    pub flavor: Flavor,
    pub url: String,
    /// Whether its containers should run.
    pub state: State,
    /// Version of the template of its files.
    pub template: u32,
    #[serde(default)]
    pub content_security_policy: Policy,
    pub provisioned: String,
    pub edited: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Running,
    Stopped,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

impl Instance {
    pub fn new(slug: &Slug, flavor: Flavor, policy: Policy, domain: Option<&str>, moment: String) -> Result<Self> {
        Ok(Self {
            slug: slug.to_string(),
            flavor,
            url: url(slug, domain)?,
            state: State::Running,
            template: template::VERSION,
            content_security_policy: policy,
            provisioned: moment.clone(),
            edited: moment,
        })
    }

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

    pub fn write(&self, directory: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        mount::write(&directory.join(FILE), text.as_bytes())
    }

    /// Returns the host in its URL.
    pub fn host(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, host)| host)
    }
}

/// Returns the host of an instance: below the domain, or below localhost, which is this machine.
fn url(slug: &Slug, domain: Option<&str>) -> Result<String> {
    let Some(domain) = domain else { return Ok(format!("http://{slug}.localhost")) };
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

    fn instance(domain: Option<&str>) -> Result<Instance> {
        let (slug, policy) = ("coins".parse().unwrap(), "default-src 'self'".parse().unwrap());
        Instance::new(&slug, Flavor::Drupal10, policy, domain, "2026-01-31T12:00:00Z".to_owned())
    }

    #[test]
    fn instance_is_read_as_written() {
        let directory = tempfile::tempdir().unwrap();
        let instance = instance(Some("example.org")).unwrap();
        instance.write(directory.path()).unwrap();
        assert_eq!(Instance::read(directory.path(), &"coins".parse().unwrap()).unwrap(), instance);
        assert_eq!((instance.url.as_str(), instance.host()), ("https://coins.example.org", "coins.example.org"));
        let error = Instance::read(directory.path(), &"other".parse().unwrap()).unwrap_err().to_string();
        assert_eq!(error, "other is broken: its instance.json is that of \"coins\"");
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
        assert_eq!(instance(None).unwrap().url, "http://coins.localhost");
        for domain in ["", "a b", "a/b", "a..b", "-a", "A.org", "a`) || Host(`b", "a:80"] {
            assert!(instance(Some(domain)).is_err(), "{domain:?}");
        }
    }
}
