//! The counters of schedules, for metrics. They last as long as the schedule is configured.

use super::Scheduler;
use distillery_observe::metrics::text::{Kind, Text};

/// The results of due times, as in the metrics.
const RESULTS: [(&str, Count); 6] = [
    ("started", Count::Started),
    ("succeeded", Count::Succeeded),
    ("failed", Count::Failed),
    ("skipped", Count::Skipped),
    ("missed", Count::Missed),
    ("refused", Count::Refused),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// The process has started.
    Started,
    /// The process has ended with success.
    Succeeded,
    /// The process has ended in any other way.
    Failed,
    /// Left out because an earlier run was still running.
    Skipped,
    /// Left out because no server was running in time.
    Missed,
    /// The call could not run.
    Refused,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts([u64; RESULTS.len()]);

impl Scheduler {
    pub(super) fn count(&self, schedule: &str, what: Count) {
        if let Some(entry) = self.entries.lock().get_mut(schedule) {
            entry.counts.0[what as usize] += 1;
        }
    }

    /// Writes the counters of all schedules.
    pub fn write_metrics(&self, text: &mut Text) {
        let entries = self.entries.lock();
        let name = "distillery_schedules";
        text.family(name, Kind::Gauge, "Schedules of the configuration, by whether they are paused.");
        let configured = || entries.values().filter(|entry| entry.is_configured);
        let paused = configured().filter(|entry| entry.schedule.paused).count();
        text.sample(name, &[("paused", "false")], (configured().count() - paused) as f64);
        text.sample(name, &[("paused", "true")], paused as f64);
        let name = "distillery_schedule_runs_total";
        text.family(name, Kind::Counter, "Due times of schedules, by schedule and by what became of them.");
        for (schedule, entry) in &*entries {
            for (result, count) in RESULTS {
                let labels = [("schedule", schedule.as_str()), ("result", result)];
                text.sample(name, &labels, entry.counts.0[count as usize] as f64);
            }
        }
    }
}
