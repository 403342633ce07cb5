//! The files of a new instance: compose file, settings, secrets.
//!
//! There are three kinds: files of the template are replaced, settings are created once, and `.env` only gets missing
//! values. Containers are run elsewhere.

use crate::{Host, dotenv::Dotenv, instance::Instance, mount};
use anyhow::{Context, Result, bail};
use std::{fs, io::ErrorKind, path::Path};

/// Increase with each change of the files below. `update` brings instances to this version.
pub const VERSION: u32 = 1;

pub const COMPOSE: &str = "compose.yaml";
pub const ENV: &str = ".env";
/// Log of the containers, which `instance_log` follows.
pub const LOG: &str = "log/instance.log";

const DIRECTORIES: [&str; 5] = ["settings", "data", "data/files", "data/database", "log"];
const SETTINGS: [(&str, &str); 3] = [
    ("settings/settings.php", include_str!("../template/settings.php")),
    ("settings/php.ini", include_str!("../template/php.ini")),
    ("settings/apache.conf", include_str!("../template/apache.conf")),
];
const SECRETS: [&str; 3] = ["DATABASE_PASSWORD", "DATABASE_ROOT_PASSWORD", "HASH_SALT"];
/// User of the containers, so that the server can read their files.
const RUN_AS: (&str, &str) = ("RUN_AS", "1000:1000");
const POLICY: &str = "CONTENT_SECURITY_POLICY";
const SECRET: usize = 40;

/// Creates all files in a new directory.
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

/// Replaces the files of the template, and adds missing values to `.env`. Other files stay.
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
    // The slug, the image and the host have no characters that YAML or a rule of traefik could misread.
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
