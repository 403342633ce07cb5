//! Counts started and ended processes from the log of the server, with their outcomes.

use distillery_tests::log::Line;
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub begun: u64,
    pub ended: u64,
    pub running: HashSet<String>,
    /// By kind, and by how far the server had to go.
    ends: BTreeMap<String, u64>,
}

impl Ledger {
    /// Counts a line if it is about a single process.
    pub fn count(&mut self, line: &Line) -> bool {
        let process = line.field("process");
        match line.message().as_str() {
            "process started" => {
                self.begun += 1;
                assert!(self.running.insert(process), "two processes with one id: {line:?}");
            }
            "process ended" => {
                self.ended += 1;
                assert!(self.running.remove(&process), "the process had ended, or never started: {line:?}");
                let (kind, stop) = (line.field("kind"), line.field("stop"));
                *self.ends.entry(format!("{kind} {stop}")).or_default() += 1;
            }
            "stderr" => {}
            _ => return false,
        }
        true
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<30} {:>12}", "processes that began", self.begun)?;
        write!(f, "{:<30} {:>12}", "processes that ended", self.ended)?;
        self.ends.iter().try_for_each(|(how, count)| write!(f, "\n  {how:<28} {count:>12}"))
    }
}
