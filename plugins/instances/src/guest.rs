//! The host of the calls in the sandbox: WASI, and the interfaces of the server.

mod command;

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "call-with-commands",
        with: {
            "wasi:io/error@0.2.0": wasip2::io::error,
            "wasi:io/poll@0.2.0": wasip2::io::poll,
            "wasi:io/streams@0.2.0": wasip2::io::streams,
        },
    });
}

use crate::{
    Host,
    compose::Compose,
    host::{Event, Input, System},
    moment::Moment,
};
use anyhow::{Context, Result, anyhow};
use bindings::distillery::call::{cancellation, outcome, systems};
use serde_json::Value;
use std::{
    env,
    io::{self, BufRead, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use wasip2::{clocks::monotonic_clock::subscribe_duration, io::poll::poll, random::random::get_random_bytes};

/// Longest answer to a question.
const LONGEST_ANSWER: u64 = 4096;

pub struct Guest {
    process: String,
    /// In a cleanup there is no cancel.
    cleans_up: bool,
}

impl Guest {
    pub fn new() -> Result<Self> {
        let process = env::var("DISTILLERY_PROCESS");
        let process = process.context("DISTILLERY_PROCESS is not set: run this call on a server")?;
        Ok(Self { process, cleans_up: env::var_os("DISTILLERY_CLEANUP").is_some() })
    }

    pub fn cleans_up(&self) -> bool {
        self.cleans_up
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

    fn pass(&mut self, bytes: &[u8]) {
        let mut stdout = io::stdout();
        _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
    }

    fn ask(&mut self, question: &str) -> Result<String> {
        self.pass(question.as_bytes());
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

    fn compose(
        &mut self,
        command: &Compose<'_>,
        input: Input<'_>,
        news: &mut dyn FnMut(&mut Self, Event<'_>) -> Result<()>,
    ) -> Result<i32> {
        command::run(self, command, input, news)
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
