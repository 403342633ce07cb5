//! The numbers that a preview 1 module knows its commands by.

use super::Held;
use distillery_command::{Stdin, Stdout};
use distillery_core::size::Size;
use std::time::Duration;

/// The commands of a module, by their numbers.
#[derive(Default)]
pub struct Table {
    pub commands: Vec<Option<Entry>>,
    /// The text about the last command that failed.
    pub error: String,
}

/// A command that a module has started.
pub struct Entry {
    pub held: Held,
    pub stdin: Option<Stdin>,
    pub stdout: Stdout,
    pub stderr: Stdout,
    pub timeout: Duration,
    pub output: Size,
}

impl Table {
    pub fn get(&mut self, command: u32) -> Option<&mut Entry> {
        self.commands.get_mut(command as usize)?.as_mut()
    }

    pub fn add(&mut self, entry: Entry) -> u32 {
        let free = self.commands.iter().position(Option::is_none);
        let place = free.unwrap_or(self.commands.len());
        match self.commands.get_mut(place) {
            Some(free) => *free = Some(entry),
            None => self.commands.push(Some(entry)),
        }
        place as u32
    }
}
