//! The surroundings of an action: questions to them, and reports to them.

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
    /// Returns the answer of the client; empty if there is none.
    fn ask(&mut self, question: &str) -> Result<String>;
    /// Reports the result to programs.
    fn set_value(&mut self, value: &Value);

    fn systems(&self) -> Result<Vec<System>>;
    fn put_system(&mut self, system: &System) -> Result<()>;
    fn remove_system(&mut self, slug: &str) -> Result<()>;

    /// Fails once the process is cancelled.
    fn go_on(&self) -> Result<()> {
        if self.is_cancelled() {
            bail!("cancelled");
        }
        Ok(())
    }
}
