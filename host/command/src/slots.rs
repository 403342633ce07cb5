//! The number of commands that run at once: of each grant, and of the server.
//!
//! The counters outlive a reload of the configuration, so that a reload lets no more run than the grant says.

use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};

/// The maximum number of commands of the server. Each has a supervisor, a thread and four file descriptors here.
const ALL: u32 = 500;

/// Counts running commands.
#[derive(Debug, Default)]
pub struct Slots(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    /// By plugin and command; without those that do not run.
    each: BTreeMap<(String, String), u32>,
}

/// The right to run one command, held until it is dropped.
#[derive(Debug)]
pub struct Slot {
    of: Arc<Slots>,
    command: (String, String),
}

/// The bound that leaves no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Command,
    Server,
}

impl Slots {
    /// Takes a slot for a command of which `most` run at once.
    pub fn take(self: &Arc<Self>, plugin: &str, name: &str, most: u32) -> Result<Slot, Full> {
        let command = (plugin.to_owned(), name.to_owned());
        let mut counts = self.0.lock();
        if counts.all >= ALL {
            return Err(Full::Server);
        }
        let count = counts.each.get(&command).copied().unwrap_or_default();
        if count >= most {
            return Err(Full::Command);
        }
        counts.each.insert(command.clone(), count + 1);
        counts.all += 1;
        Ok(Slot { of: self.clone(), command })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.of.0.lock();
        counts.all -= 1;
        if let Some(count) = counts.each.get_mut(&self.command) {
            *count -= 1;
            if *count == 0 {
                counts.each.remove(&self.command);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_and_server_bound_the_runs() {
        let slots = Arc::new(Slots::default());
        let first = slots.take("a", "x", 1).unwrap();
        assert_eq!(slots.take("a", "x", 1).unwrap_err(), Full::Command);
        assert!(slots.take("b", "x", 1).is_ok());
        drop(first);
        let all: Vec<_> = std::iter::from_fn(|| slots.take("a", "x", u32::MAX).ok()).collect();
        assert_eq!((all.len(), slots.take("c", "x", 1).unwrap_err()), (ALL as usize, Full::Server));
        drop(all);
        assert!(slots.0.lock().each.is_empty());
    }
}
