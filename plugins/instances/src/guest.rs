//! The host of the calls in the sandbox: WASI, and the interfaces of the server.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "call",
        with: { "wasi:io/poll@0.2.0": wasip2::io::poll },
    });
}

use anyhow::{Context, Result, anyhow, bail};
use bindings::distillery::call::{cancellation, outcome, systems};
use instances::{
    Host, Mount,
    action::{
        backup::backup, cleanup::cleanup, provision::provision, purge::purge, rebuild::rebuild, restore::restore,
        snapshot::snapshot, switch::switch, update::update,
    },
    host::System,
    instance::State,
    moment::Moment,
    slug::Slug,
};
use serde_json::Value;
use std::{
    env,
    io::{self, BufRead, Write},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use wasip2::{clocks::monotonic_clock::subscribe_duration, io::poll::poll, random::random::get_random_bytes};

/// As in plugin.yaml.
const AT: &str = "/instances";
/// Longest answer to a question.
const LONGEST_ANSWER: u64 = 4096;

struct Guest {
    process: String,
    /// In a cleanup there is no cancel.
    cleans_up: bool,
}

pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The last line becomes the message of the failure.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = env::args();
    let call = arguments.next().unwrap_or_default();
    let params: Vec<String> = arguments.collect();
    let param = |at: usize| params.get(at).map(String::as_str);
    let slug = || param(0).unwrap_or_default().parse::<Slug>();
    let process = env::var("DISTILLERY_PROCESS").context("DISTILLERY_PROCESS is not set: run this call on a server")?;
    let host = &mut Guest { process, cleans_up: env::var_os("DISTILLERY_CLEANUP").is_some() };
    let mount = &Mount::open(AT)?;
    if host.cleans_up {
        return cleanup(mount, host, &call, param(0));
    }
    match call.as_str() {
        "provision" => provision(mount, host, param(0).unwrap_or_default()),
        "purge" => purge(mount, host, &slug()?),
        "snapshot" => snapshot(mount, host, &slug()?),
        "restore" => restore(mount, host, &slug()?, param(1)),
        "backup" => backup(mount, host),
        "start" => switch(mount, host, &slug()?, State::Running),
        "stop" => switch(mount, host, &slug()?, State::Stopped),
        "rebuild" => rebuild(mount, host, &slug()?, param(1)),
        "update" => update(mount, host, &slug()?),
        other => bail!("there is no call {other:?} in this plugin"),
    }
}

impl Host for Guest {
    fn process(&self) -> String {
        self.process.clone()
    }

    fn now(&self) -> Moment {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment(since.as_millis() as u64)
    }

    fn random(&mut self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&get_random_bytes(bytes.len() as u64));
    }

    fn domain(&self) -> Option<String> {
        env::var("INSTANCES_DOMAIN").ok().filter(|domain| !domain.is_empty())
    }

    fn is_cancelled(&self) -> bool {
        !self.cleans_up && cancellation::poll().is_some()
    }

    fn pause(&mut self, time: Duration) {
        let clock = subscribe_duration(time.as_nanos() as u64);
        if self.cleans_up || self.is_cancelled() {
            clock.block();
        } else {
            poll(&[&clock, &cancellation::subscribe()]);
        }
    }

    fn say(&mut self, line: &str) {
        // A client that is gone does not stop a call.
        _ = writeln!(io::stdout(), "{line}");
    }

    fn ask(&mut self, question: &str) -> Result<String> {
        let mut stdout = io::stdout();
        _ = write!(stdout, "{question}").and_then(|()| stdout.flush());
        let mut answer = String::new();
        io::Read::take(io::stdin().lock(), LONGEST_ANSWER).read_line(&mut answer).context("there is no answer")?;
        Ok(answer.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn set_value(&mut self, value: &Value) {
        if let Err(error) = outcome::set_value(&value.to_string()) {
            eprintln!("could not set the value of the call: {error}");
        }
    }

    fn systems(&self) -> Result<Vec<System>> {
        let all = systems::list().map_err(told)?;
        Ok(all.into_iter().map(to_here).collect())
    }

    fn put_system(&mut self, system: &System) -> Result<()> {
        systems::put(&to_there(system)).map(drop).map_err(told)
    }

    fn remove_system(&mut self, slug: &str) -> Result<()> {
        systems::remove(slug).map(drop).map_err(told)
    }
}

fn told(why: String) -> anyhow::Error {
    anyhow!("the systems: {why}")
}

fn to_here(system: systems::System) -> System {
    let systems::System { slug, url, tagline, entity_count, bundle_count, last_edit } = system;
    System { slug, url, tagline, entity_count, bundle_count, last_edit }
}

fn to_there(system: &System) -> systems::System {
    let System { slug, url, tagline, entity_count, bundle_count, last_edit } = system.clone();
    systems::System { slug, url, tagline, entity_count, bundle_count, last_edit }
}
