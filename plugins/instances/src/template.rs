//! What an instance is made from: its compose file, its settings, its secrets.
//!
//! Three kinds of files: those that belong to the template are made anew, settings are made once, and of `.env` only
//! what is missing is added. Nothing here runs a container.

use crate::{Host, dotenv::Dotenv, instance::Instance, mount};
use anyhow::{Context, Result, bail};
use std::{fs, io::ErrorKind, path::Path};

/// To be raised with each change of the files below. `update` brings instances to it.
pub const VERSION: u32 = 1;

pub const COMPOSE: &str = "compose.yaml";
pub const ENV: &str = ".env";
/// Where the containers write what `instance_log` follows.
pub const LOG: &str = "log/instance.log";

const DIRECTORIES: [&str; 5] = ["settings", "data", "data/files", "data/database", "log"];
const SETTINGS: [(&str, &str); 3] = [
    ("settings/settings.php", include_str!("../template/settings.php")),
    ("settings/php.ini", include_str!("../template/php.ini")),
    ("settings/apache.conf", include_str!("../template/apache.conf")),
];
const SECRETS: [&str; 3] = ["DATABASE_PASSWORD", "DATABASE_ROOT_PASSWORD", "HASH_SALT"];
/// Who the containers run as, so that what they write can be read by the server.
const RUN_AS: (&str, &str) = ("RUN_AS", "1000:1000");
const POLICY: &str = "CONTENT_SECURITY_POLICY";
const SECRET: usize = 40;

/// Makes all files in a new directory.
pub fn make(directory: &Path, instance: &Instance, host: &mut impl Host) -> Result<()> {
    for name in DIRECTORIES {
        fs::create_dir(directory.join(name)).with_context(|| format!("cannot make {name}"))?;
        host.go_on()?;
    }
    host.say("compose file and settings");
    for (name, content) in SETTINGS {
        mount::write(&directory.join(name), content.as_bytes())?;
        host.go_on()?;
    }
    compose(directory, instance)?;
    host.say("secrets");
    host.go_on()?;
    env(directory, instance, host)?;
    mount::write(&directory.join(LOG), format!("{} provisioned\n", instance.provisioned).as_bytes())
}

/// Makes anew what belongs to the template, and adds what is missing of `.env`. All else is left alone.
pub fn renew(directory: &Path, instance: &Instance, host: &mut impl Host) -> Result<()> {
    for name in DIRECTORIES {
        match fs::create_dir(directory.join(name)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make {name}"));
            }
            _ => {}
        }
    }
    // First the values, then the file that needs them.
    env(directory, instance, host)?;
    compose(directory, instance)
}

fn compose(directory: &Path, instance: &Instance) -> Result<()> {
    // The slug, the image and the host consist of nothing that YAML or a rule of traefik could misunderstand.
    let text = include_str!("../template/compose.yaml")
        .replace("{slug}", &instance.slug)
        .replace("{image}", instance.flavor.image())
        .replace("{host}", instance.host());
    mount::write(&directory.join(COMPOSE), text.as_bytes())
}

fn env(directory: &Path, instance: &Instance, host: &mut impl Host) -> Result<()> {
    let file = directory.join(ENV);
    let mut dotenv = match fs::symlink_metadata(&file) {
        Ok(it) if it.is_file() => Dotenv::read(&fs::read_to_string(&file).context(".env cannot be read")?),
        Ok(_) => bail!(".env is not a file: remove it"),
        Err(_) => Dotenv::default(),
    };
    for key in SECRETS {
        if !dotenv.has(key) {
            dotenv.set(key, &secret(host));
        }
    }
    if !dotenv.has(RUN_AS.0) {
        dotenv.set(RUN_AS.0, RUN_AS.1);
    }
    dotenv.set(POLICY, instance.content_security_policy.as_str());
    mount::write(&file, dotenv.to_string().as_bytes())
}

/// Letters and digits, each equally likely.
fn secret(host: &mut impl Host) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut secret = String::new();
    while secret.len() < SECRET {
        let mut bytes = [0; SECRET];
        host.random(&mut bytes);
        // Of 256 values only a multiple of 62 can be shared out evenly.
        let even = bytes.into_iter().filter(|byte| *byte < 248).map(|byte| char::from(LETTERS[usize::from(byte % 62)]));
        secret.extend(even.take(SECRET - secret.len()));
    }
    secret
}
