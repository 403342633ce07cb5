//! What an action asks of its surroundings and tells them.

use crate::moment::Moment;
use anyhow::{Result, bail};
use serde_json::Value;
use std::time::Duration;

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

pub trait Host {
    /// The id of this process, which no other has.
    fn process(&self) -> String;
    fn now(&self) -> Moment;
    fn random(&mut self, bytes: &mut [u8]);
    /// The domain that instances are found below, if there is one.
    fn domain(&self) -> Option<String>;

    fn is_cancelled(&self) -> bool;
    /// Returns early when it is cancelled meanwhile.
    fn pause(&mut self, time: Duration);

    fn say(&mut self, line: &str);
    /// What the client answers; empty if it does not.
    fn ask(&mut self, question: &str) -> Result<String>;
    /// Says, for programs, what came of it.
    fn set_value(&mut self, value: &Value);

    fn systems(&self) -> Result<Vec<System>>;
    fn put_system(&mut self, system: &System) -> Result<()>;
    fn remove_system(&mut self, slug: &str) -> Result<()>;

    /// An error once it is cancelled.
    fn go_on(&self) -> Result<()> {
        if self.is_cancelled() {
            bail!("cancelled");
        }
        Ok(())
    }
}
