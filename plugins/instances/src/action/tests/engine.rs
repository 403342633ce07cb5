//! An engine in memory: what it has after each verb of the command, and how it fails.

use crate::{compose::Compose, template::services};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

#[derive(Debug, Default)]
pub struct Engine {
    instances: PathBuf,
    stacks: BTreeMap<String, Stack>,
    /// Verbs and the commands of `exec`, in their order.
    pub ran: Vec<String>,
    /// What `exec` got as its input.
    pub input: Vec<u8>,
    /// Verbs that fail, with their words.
    pub fails: BTreeMap<&'static str, &'static str>,
    /// Services that do not become healthy.
    pub ill: BTreeSet<&'static str>,
    /// Whether `down` leaves its containers running, as one with a hanging process.
    pub hangs: bool,
}

#[derive(Debug, Default)]
struct Stack {
    /// Containers, and how often they were looked at.
    containers: BTreeMap<String, usize>,
    has_network: bool,
    has_volume: bool,
}

#[derive(Debug, Default)]
pub struct Done {
    pub status: i32,
    pub output: String,
    pub error: String,
}

/// The dump that every service prints.
pub const DUMP: &str = "-- all tables\n";

impl Engine {
    pub fn of(instances: &Path) -> Self {
        Self { instances: instances.to_owned(), ..Self::default() }
    }

    pub fn left(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (slug, stack) in &self.stacks {
            all.extend(stack.containers.keys().map(|service| format!("container {slug}_{service}")));
            all.extend(stack.has_network.then(|| format!("network {slug}")));
            all.extend(stack.has_volume.then(|| format!("volume {slug}")));
        }
        all
    }

    pub fn run(&mut self, command: &Compose<'_>, input: Vec<u8>) -> Done {
        let slug = command.slug.to_string();
        let service = if command.service.is_empty() { String::new() } else { format!(" {}", command.service) };
        self.ran.push(format!("{}{service}", command.verb));
        if let Some(words) = self.fails.get(command.verb) {
            return Done { status: 1, error: format!("{words}\n"), ..Done::default() };
        }
        let output = match command.verb {
            "up" => self.up(&slug),
            "down" if self.hangs => String::new(),
            "down" => {
                let stack = self.stacks.entry(slug).or_default();
                stack.containers.clear();
                stack.has_network = false;
                String::new()
            }
            "remove" if self.hangs => String::new(),
            "remove" => {
                self.stacks.remove(&slug);
                String::new()
            }
            "left" => {
                let of =
                    |line: &&String| line.split(' ').next_back().is_some_and(|it| it.split('_').next() == Some(&slug));
                self.left().iter().filter(of).map(|line| format!("{line}\n")).collect()
            }
            "ps" => self.ps(&slug),
            "tail" => "the last line of its log\n".to_owned(),
            "exec" => {
                self.ran.push(command.text.to_owned());
                self.input = input;
                DUMP.to_owned()
            }
            _ => String::new(),
        };
        Done { output, ..Done::default() }
    }

    fn up(&mut self, slug: &str) -> String {
        let profiles = std::fs::read_to_string(self.instances.join(slug).join(".env")).unwrap();
        assert!(profiles.contains("SLUG=\""), "the values of the compose file are there before it is used");
        let services = services(&self.instances.join(slug), "").unwrap();
        let stack = self.stacks.entry(slug.to_owned()).or_default();
        (stack.has_network, stack.has_volume) = (true, true);
        stack.containers = services.into_iter().map(|service| (service, 0)).collect();
        format!("Creating {slug}\n")
    }

    fn ps(&mut self, slug: &str) -> String {
        let Some(stack) = self.stacks.get_mut(slug) else { return String::new() };
        let mut lines = String::new();
        for (service, looked) in &mut stack.containers {
            *looked += 1;
            let health = match looked {
                1 => "health: starting",
                _ if self.ill.contains(service.as_str()) => "unhealthy",
                _ => "healthy",
            };
            lines += &format!("{service} running Up 1 second ({health})\n");
        }
        lines
    }
}
