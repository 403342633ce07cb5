//! The name and the parameters of a call, and the action that they mean.

use anyhow::{Context, Result, bail};
use instances::{
    Mount,
    action::{
        backup::backup, cleanup::cleanup, cron::cron, exec::exec, provision::provision, prune::prune, purge::purge,
        rebuild::rebuild, restore::restore, snapshot::snapshot, start::start, status::status, stop::stop,
        update::update,
    },
    full,
    guest::Guest,
    retention::Retention,
    slug::Slug,
    template::Templates,
};
use std::{env, process::ExitCode};

/// As in plugin.yaml.
const INSTANCES: &str = "/instances";
const TEMPLATES: &str = "/templates";

pub fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("the command ended with status {status}");
            ExitCode::from(u8::try_from(status).unwrap_or(1))
        }
        Err(error) => {
            // The last line becomes the message of the failure.
            eprintln!("{}", full::explained(&error));
            ExitCode::FAILURE
        }
    }
}

/// Returns the exit status of the command of `exec`, and otherwise 0.
fn run() -> Result<i32> {
    let mut arguments = env::args();
    let call = arguments.next().unwrap_or_default();
    let params: Vec<String> = arguments.collect();
    let param = |at: usize| params.get(at).map(String::as_str).filter(|it| !it.is_empty());
    let slug = || param(0).unwrap_or_default().parse::<Slug>();
    let any_slug = |at| param(at).map(str::parse::<Slug>).transpose();
    let host = &mut Guest::new()?;
    let mount = &Mount::open(INSTANCES, Templates::open(TEMPLATES))?;
    if host.cleans_up() {
        cleanup(mount, host, &call, param(0))?;
        return Ok(0);
    }
    match call.as_str() {
        "provision" => provision(mount, host, param(0).unwrap_or_default()),
        "purge" => purge(mount, host, &slug()?, param(1) == Some("--yes")),
        "snapshot" => snapshot(mount, host, &slug()?),
        "restore" => restore(mount, host, &slug()?, param(1)),
        "backup" => backup(mount, host),
        "start" => start(mount, host, &slug()?),
        "stop" => stop(mount, host, &slug()?),
        "rebuild" => rebuild(mount, host, &slug()?, param(1)),
        "update" => update(mount, host, &slug()?),
        "status" => status(mount, host, any_slug(0)?.as_ref()),
        "cron" => cron(mount, host, any_slug(0)?.as_ref()),
        "prune" => {
            let number = |at: usize| param(at).unwrap_or("0").parse().context("a number is expected");
            let (daily, weekly, monthly) = (number(2)?, number(3)?, number(4)?);
            let retention = Retention { last: number(1)?, daily, weekly, monthly };
            let slug = any_slug(0)?;
            prune(mount, host, slug.as_ref(), retention, param(5) == Some("list"))
        }
        "exec" => return exec(mount, host, &slug()?, param(1).unwrap_or_default(), param(2)),
        other => bail!("there is no call {other:?} in this plugin"),
    }?;
    Ok(0)
}
