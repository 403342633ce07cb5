//! A template of instances: a directory of the operator with `template.yaml`, a compose file, and other files.
//!
//! The operator can read and write everything that a template can name, so that it is trusted. It is still checked, so
//! that a mistake is found before an instance is made.

use crate::{form, slug::shown, value::Value};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

pub const FILE: &str = "template.yaml";
pub const COMPOSE: &str = "compose.yaml";
/// Largest `template.yaml` and compose file.
const LONGEST: u64 = 1 << 20;
/// Time until all services are healthy, unless the template says another.
const READY: Duration = Duration::from_secs(5 * 60);

/// All templates, by the names of their directories.
#[derive(Clone, Debug)]
pub struct Templates {
    root: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Template {
    pub name: String,
    pub directory: PathBuf,
    written: Written,
    ready: Duration,
    ports: Option<(u16, u16)>,
}

/// The content of `template.yaml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    flavors: Vec<Flavor>,
    #[serde(default)]
    values: BTreeMap<String, Value>,
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(default)]
    credentials: BTreeMap<String, String>,
    #[serde(default)]
    params: BTreeMap<String, Param>,
    ports: Option<String>,
    #[serde(default)]
    once: BTreeSet<String>,
    #[serde(default)]
    directories: Vec<String>,
    shell: Option<String>,
    ready: Option<String>,
    #[serde(default)]
    hooks: Hooks,
    #[serde(default)]
    dumps: BTreeMap<String, Dump>,
}

/// A variant of a template, which clients choose by name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flavor {
    pub name: String,
    /// Whether it is taken if a form names none.
    #[serde(default)]
    pub default: bool,
    #[serde(default)]
    pub values: BTreeMap<String, Value>,
}

/// A key of `System` in a form.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// The value of `.env` that it sets.
    pub value: String,
    /// What is allowed, and the value of each; without it, any value is.
    pub choices: Option<BTreeMap<String, Value>>,
    pub default: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    pub provisioned: Option<Hook>,
    pub cron: Option<Hook>,
}

/// A command of a shell in a service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    pub service: String,
    pub run: String,
}

/// Data of a service that only the service can read consistently.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dump {
    pub service: String,
    /// A service without which there is nothing to dump.
    pub needs: Option<String>,
    pub dump: String,
    pub load: String,
    #[serde(default)]
    pub instead_of: BTreeSet<String>,
}

impl Templates {
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn names(&self) -> Result<Vec<String>> {
        let unreadable = "the templates of instances cannot be read: the operator must grant their directory";
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).context(unreadable)? {
            let entry = entry.context(unreadable)?;
            let name = entry.file_name().into_string().unwrap_or_default();
            if !name.starts_with('.') && entry.path().join(FILE).is_file() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    pub fn read(&self, name: &str) -> Result<Template> {
        ensure!(crate::manifest::is_inside(name) && !name.contains('/'), "{} is not a template", shown(name));
        let directory = self.root.join(name);
        let file = directory.join(FILE);
        let text = read_bounded(&file).with_context(|| format!("the template {name} has no readable {FILE}"))?;
        let written: Written =
            serde_yaml::from_str(&text).with_context(|| format!("{FILE} of the template {name} is invalid"))?;
        Template::checked(name, directory, written).with_context(|| format!("{FILE} of the template {name} is invalid"))
    }

    /// Returns the template and the flavor of this name, or the default without a name.
    pub fn choose(&self, flavor: Option<&str>) -> Result<(Template, Flavor)> {
        let flavor = flavor.filter(|it| !it.is_empty());
        let mut all = Vec::new();
        for name in self.names()? {
            let template = self.read(&name)?;
            let found = template.flavors().iter().find(|it| match flavor {
                Some(flavor) => plain(&it.name) == plain(flavor),
                None => it.default,
            });
            if let Some(found) = found.cloned() {
                return Ok((template, found));
            }
            all.extend(template.flavors().iter().map(|it| it.name.clone()));
        }
        ensure!(!all.is_empty(), "there are no templates of instances: the operator must make one");
        match flavor {
            Some(flavor) => bail!("unknown Flavor {}: choose one of {}", shown(flavor), all.join(", ")),
            None => bail!("Flavor is missing: choose one of {}", all.join(", ")),
        }
    }
}

/// Returns a name in the form in which two spellings are the same: `drupal-11` and `Drupal 11`.
fn plain(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

impl Template {
    fn checked(name: &str, directory: PathBuf, written: Written) -> Result<Self> {
        ensure!(!written.flavors.is_empty(), "flavors is empty: name at least one");
        let params = written.params.values().map(|param| &param.value);
        let values = written.flavors.iter().flat_map(|flavor| flavor.values.keys()).chain(written.values.keys());
        for key in values.chain(&written.secrets).chain(written.credentials.values()).chain(params) {
            ensure!(is_key(key), "{key:?} is not the name of a variable");
        }
        for path in written.once.iter().chain(&written.directories) {
            ensure!(crate::manifest::is_inside(path), "{path:?} leads out of the instance");
        }
        for (dump, it) in &written.dumps {
            let names = it.instead_of.iter().all(|path| crate::manifest::is_inside(path));
            ensure!(
                crate::manifest::is_inside(dump) && !dump.contains('/') && names,
                "dumps.{dump} is not a plain name"
            );
        }
        for (key, param) in &written.params {
            param.read(&param.default).with_context(|| format!("the default of params.{key}"))?;
        }
        let ready = written.ready.as_deref().map(time).transpose()?.unwrap_or(READY);
        let ports = written.ports.as_deref().map(range).transpose()?;
        Ok(Self { name: name.to_owned(), directory, written, ready, ports })
    }

    pub fn version(&self) -> u32 {
        self.written.version
    }

    pub fn flavors(&self) -> &[Flavor] {
        &self.written.flavors
    }

    pub fn flavor(&self, name: &str) -> Result<&Flavor> {
        let found = self.written.flavors.iter().find(|flavor| flavor.name == name);
        found.with_context(|| format!("the template {} has no flavor {} any more", self.name, shown(name)))
    }

    /// Values of `.env` that are set once.
    pub fn values(&self) -> &BTreeMap<String, Value> {
        &self.written.values
    }

    pub fn secrets(&self) -> &[String] {
        &self.written.secrets
    }

    /// Names for people, and the values of `.env` that `provision` returns under them.
    pub fn credentials(&self) -> &BTreeMap<String, String> {
        &self.written.credentials
    }

    pub fn ports(&self) -> Option<(u16, u16)> {
        self.ports
    }

    pub fn is_made_once(&self, name: &str) -> bool {
        self.written.once.contains(name)
    }

    pub fn directories(&self) -> &[String] {
        &self.written.directories
    }

    pub fn shell(&self) -> Option<&str> {
        self.written.shell.as_deref()
    }

    pub fn ready(&self) -> Duration {
        self.ready
    }

    pub fn hooks(&self) -> &Hooks {
        &self.written.hooks
    }

    /// Returns the dumps of a stack with these services.
    pub fn dumps(&self, services: &BTreeSet<String>) -> Vec<(&str, &Dump)> {
        let has = |dump: &Dump| dump.needs.as_ref().is_none_or(|it| services.contains(it));
        self.written.dumps.iter().filter(|(_, dump)| has(dump)).map(|(name, dump)| (name.as_str(), dump)).collect()
    }

    /// Reads `System` of a form: the params of this template, with their defaults, and the names of other keys.
    pub fn params(&self, mut system: form::System) -> Result<(BTreeMap<String, String>, Vec<String>)> {
        let mut params = BTreeMap::new();
        for (key, param) in &self.written.params {
            let said = form::text(system.remove(key), key)?.unwrap_or_else(|| param.default.clone());
            param.read(&said).with_context(|| key.clone())?;
            params.insert(key.clone(), said);
        }
        Ok((params, system.into_iter().map(|(key, _)| format!("System.{key}")).collect()))
    }

    /// Returns the values of `.env` for these params.
    pub fn of_params(&self, params: &BTreeMap<String, String>) -> Result<BTreeMap<&str, Value>> {
        let read = |(key, param): (&String, &'_ Param)| {
            let said = params.get(key).unwrap_or(&param.default);
            param.read(said).with_context(|| key.clone())
        };
        let all = self.written.params.iter();
        all.map(|(key, param)| Ok((param.value.as_str(), read((key, param))?))).collect()
    }
}

impl Param {
    fn read(&self, said: &str) -> Result<Value> {
        let Some(choices) = &self.choices else { return said.parse() };
        // Clients say more of a choice in brackets: `Default (8.1)`.
        let short = said.split(" (").next().unwrap_or(said);
        match choices.get(said).or_else(|| choices.get(short)) {
            Some(value) => Ok(value.clone()),
            None => {
                bail!("is {}: choose one of {}", shown(said), choices.keys().cloned().collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// Returns the services of a compose file that a stack has, with these profiles.
pub fn services(directory: &Path, profiles: &str) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Compose {
        services: BTreeMap<String, Service>,
    }
    #[derive(Deserialize)]
    struct Service {
        #[serde(default)]
        profiles: Vec<String>,
    }
    let text = read_bounded(&directory.join(COMPOSE)).with_context(|| format!("{COMPOSE} cannot be read"))?;
    let compose: Compose = serde_yaml::from_str(&text).with_context(|| format!("{COMPOSE} is invalid"))?;
    let active: Vec<_> = profiles.split(',').map(str::trim).collect();
    let has = |service: &Service| {
        service.profiles.is_empty() || service.profiles.iter().any(|profile| active.contains(&profile.as_str()))
    };
    Ok(compose.services.into_iter().filter(|(_, service)| has(service)).map(|(name, _)| name).collect())
}

fn read_bounded(file: &Path) -> Result<String> {
    ensure!(fs::metadata(file)?.len() <= LONGEST, "it is larger than {LONGEST} bytes");
    Ok(fs::read_to_string(file)?)
}

fn is_key(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && key.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

fn time(text: &str) -> Result<Duration> {
    let unit = |end: &str, seconds: u64| text.strip_suffix(end)?.parse::<u64>().ok()?.checked_mul(seconds);
    let seconds = unit("s", 1).or_else(|| unit("m", 60)).or_else(|| unit("h", 3600));
    seconds.map(Duration::from_secs).with_context(|| format!("{text:?} is not a time such as 90s or 5m"))
}

fn range(text: &str) -> Result<(u16, u16)> {
    let read = || {
        let (from, to) = text.split_once('-')?;
        Some((from.trim().parse().ok()?, to.trim().parse().ok()?)).filter(|(from, to)| 0 < *from && from <= to)
    };
    read().with_context(|| format!("ports is {text:?}: write a range such as 20000-20999"))
}

#[cfg(test)]
mod tests;
