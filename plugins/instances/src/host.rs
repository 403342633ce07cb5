//! The surroundings of an action: questions to them, reports to them, and the containers that they run.

use crate::{compose::Compose, moment::Moment};
use anyhow::{Result, bail};
use serde_json::Value;
use std::{io::Read, time::Duration};

/// An entry among the public systems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    pub slug: String,
    pub url: String,
    pub tagline: String,
    pub entity_count: u64,
    pub bundle_count: u64,
    pub last_edit: Option<String>,
}

/// Standard input of a command.
pub enum Input<'a> {
    Empty,
    Content(&'a mut dyn Read),
    /// What the client types.
    Client,
}

/// News of a running command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Output(&'a [u8]),
    Error(&'a [u8]),
    /// Every second at least, without news.
    Tick,
}

pub trait Host {
    /// The unique id of this process.
    fn process(&self) -> String;
    fn now(&self) -> Moment;
    fn random(&mut self, bytes: &mut [u8]);
    /// The domain of the instances, if there is one.
    fn domain(&self) -> Option<String>;

    fn is_cancelled(&self) -> bool;
    /// Sleeps. A cancel ends the sleep early.
    fn pause(&mut self, time: Duration);

    fn say(&mut self, line: &str);
    /// Passes the output of a command to the client as it is.
    fn pass(&mut self, bytes: &[u8]);
    /// Returns the answer of the client; empty if there is none.
    fn ask(&mut self, question: &str) -> Result<String>;
    /// Reports the result to programs.
    fn set_value(&mut self, value: &Value);

    fn systems(&self) -> Result<Vec<System>>;
    fn put_system(&mut self, system: &System) -> Result<()>;
    fn remove_system(&mut self, slug: &str) -> Result<()>;

    /// Runs the command `compose`, which the operator grants, and returns its exit status. It is ended if `news` fails,
    /// and at a cancel unless it undoes something.
    fn compose(
        &mut self,
        command: &Compose<'_>,
        input: Input<'_>,
        news: &mut dyn FnMut(&mut Self, Event<'_>) -> Result<()>,
    ) -> Result<i32>
    where
        Self: Sized;

    /// Fails once the process is cancelled.
    fn go_on(&self) -> Result<()> {
        if self.is_cancelled() {
            bail!("cancelled");
        }
        Ok(())
    }
}
