//! The files of an instance, made from its template: compose file, settings, `.env`.
//!
//! There are two kinds: files below the names in `once` are made by `provision` only, all others are replaced by
//! `rebuild` and `update`. In `.env`, secrets and the values of the template are made once; the others are replaced.

use crate::{
    Host,
    dotenv::Dotenv,
    instance::Instance,
    mount,
    template::{FILE, Flavor, Template},
};
use anyhow::{Context, Result, bail, ensure};
use std::{fs, io::ErrorKind, path::Path};

pub const ENV: &str = ".env";
const SECRET: usize = 40;
/// Largest file of a template, and deepest nesting.
const LARGEST: u64 = 64 << 20;
const DEEPEST: usize = 16;

/// Makes all files in a new directory.
pub fn make(directory: &Path, template: &Template, instance: &Instance, host: &mut impl Host) -> Result<()> {
    host.say("compose file and settings");
    copy(&template.directory, directory, 0, host, &|_| true)?;
    directories(directory, template)?;
    host.say("secrets");
    host.go_on()?;
    env(directory, template, instance, host)
}

/// Replaces the files of the template, and adds what is missing. Files that are made once stay.
pub fn renew(directory: &Path, template: &Template, instance: &Instance, host: &mut impl Host) -> Result<()> {
    directories(directory, template)?;
    // First the values, then the file that needs them.
    env(directory, template, instance, host)?;
    copy(&template.directory, directory, 0, host, &|name| !template.is_made_once(name))
}

/// Copies the files of a template, or those at its top that are `wanted`.
fn copy(from: &Path, to: &Path, depth: usize, host: &impl Host, wanted: &dyn Fn(&str) -> bool) -> Result<()> {
    ensure!(depth < DEEPEST, "the template is nested too deeply");
    for name in mount::names(from).context("the template cannot be read")? {
        host.go_on()?;
        if depth == 0 && (name == FILE || !wanted(&name)) {
            continue;
        }
        let (from, to) = (from.join(&name), to.join(&name));
        let metadata = fs::metadata(&from).with_context(|| format!("{name} of the template cannot be read"))?;
        if metadata.is_dir() {
            directory(&to, &name)?;
            copy(&from, &to, depth + 1, host, wanted)?;
        } else {
            ensure!(metadata.len() <= LARGEST, "{name} of the template is larger than {LARGEST} bytes");
            let content = fs::read(&from).with_context(|| format!("{name} of the template cannot be read"))?;
            mount::write(&to, &content)?;
        }
    }
    Ok(())
}

fn directories(of: &Path, template: &Template) -> Result<()> {
    for path in template.directories() {
        let mut at = of.to_owned();
        for name in path.split('/') {
            at.push(name);
            directory(&at, path)?;
        }
    }
    Ok(())
}

/// Makes a directory that can exist already.
fn directory(at: &Path, name: &str) -> Result<()> {
    match fs::create_dir(at) {
        // A link in its place could lead into another instance.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match fs::symlink_metadata(at) {
            Ok(it) if it.is_dir() => Ok(()),
            _ => bail!("{name} is not a directory: remove it"),
        },
        made => made.with_context(|| format!("cannot make {name}")),
    }
}

/// Writes `.env`: the values that the compose file can use.
pub fn env(directory: &Path, template: &Template, instance: &Instance, host: &mut impl Host) -> Result<()> {
    let mut dotenv = read_env(directory)?;
    for key in template.secrets() {
        if !dotenv.has(key) {
            dotenv.set(key, &secret(host));
        }
    }
    for (key, value) in template.values() {
        if !dotenv.has(key) {
            dotenv.set(key, value.as_str());
        }
    }
    let Flavor { values, .. } = template.flavor(&instance.flavor)?;
    for (key, value) in values {
        dotenv.set(key, value.as_str());
    }
    for (key, value) in template.of_params(&instance.params)? {
        dotenv.set(key, value.as_str());
    }
    dotenv.set("SLUG", &instance.slug);
    dotenv.set("URL", &instance.url);
    dotenv.set("HOST", instance.host());
    if let Some(port) = instance.port {
        dotenv.set("PORT", &port.to_string());
    }
    mount::write(&directory.join(ENV), dotenv.to_string().as_bytes())
}

pub fn read_env(directory: &Path) -> Result<Dotenv> {
    let file = directory.join(ENV);
    match fs::symlink_metadata(&file) {
        Ok(it) if it.is_file() => Ok(Dotenv::read(&fs::read_to_string(&file).context(".env cannot be read")?)),
        Ok(_) => bail!(".env is not a file: remove it"),
        Err(_) => Ok(Dotenv::default()),
    }
}

/// Returns random letters and digits, all equally likely.
fn secret(host: &mut impl Host) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut secret = String::new();
    while secret.len() < SECRET {
        let mut bytes = [0; SECRET];
        host.random(&mut bytes);
        // Only a multiple of 62 of the 256 values can be distributed evenly.
        let even = bytes.into_iter().filter(|byte| *byte < 248).map(|byte| char::from(LETTERS[usize::from(byte % 62)]));
        secret.extend(even.take(SECRET - secret.len()));
    }
    secret
}
