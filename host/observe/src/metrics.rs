//! Counters of calls. Counting costs a process a few atomic additions at its start and its end, and nothing for its
//! lines. It does not know who reads the numbers.
//!
//! Only names of existing calls become labels, and only a bounded number of them: invalid names that clients send
//! cannot add labels.

pub mod hooks;
pub mod text;

use distillery_core::call::{CallName, Full, Outcome, Refusal};
use hooks::HookMetrics;
use parking_lot::RwLock;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use text::{Kind, Text};

/// Calls that are counted by name, over all calls that plugins ever provided. Later ones are counted together.
const NAMES: usize = 1000;
/// Label of calls that are counted together. No call can have this name.
const OTHERS: &str = "(others)";

/// In seconds: calls are short, or take hours.
const DURATIONS: [f64; 12] = [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 21_600.0];
const WAITS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 30.0];

const OUTCOMES: [&str; 5] = ["success", "exited", "trapped", "cancelled", "failed"];
const REASONS: [&str; 12] = [
    "no_call",
    "protocol_error",
    "unknown_call",
    "loading",
    "unknown_process",
    "not_authorized",
    "bad_params",
    "rights_changed",
    "server_full",
    "plugin_full",
    "caller_full",
    "left_queue",
];

#[derive(Default)]
pub struct Metrics {
    calls: RwLock<HashMap<Arc<str>, Arc<CallMetrics>>>,
    refused: [AtomicU64; REASONS.len()],
    waited: Histogram<{ WAITS.len() }>,
    pub hooks: Arc<HookMetrics>,
}

/// Counters of one call.
#[derive(Default)]
pub struct CallMetrics {
    started: AtomicU64,
    ended: [AtomicU64; OUTCOMES.len()],
    took: Histogram<{ DURATIONS.len() }>,
    cpu_us: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    commands: AtomicU64,
    commands_cpu_us: AtomicU64,
}

/// Usage of a process over its lifetime.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub time: Duration,
    pub cpu: Duration,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Granted commands that ended before the process did.
    pub commands: u64,
    pub commands_cpu: Duration,
}

/// A histogram of durations. The last bucket counts those above all bounds.
struct Histogram<const BOUNDS: usize> {
    counts: [AtomicU64; BOUNDS],
    beyond: AtomicU64,
    sum_us: AtomicU64,
}

impl<const BOUNDS: usize> Default for Histogram<BOUNDS> {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::default()),
            beyond: AtomicU64::default(),
            sum_us: AtomicU64::default(),
        }
    }
}

impl<const BOUNDS: usize> Histogram<BOUNDS> {
    fn count(&self, bounds: &[f64; BOUNDS], took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = bounds.iter().position(|bound| seconds <= *bound).map_or(&self.beyond, |at| &self.counts[at]);
        bucket.fetch_add(1, Relaxed);
        self.sum_us.fetch_add(micros(took), Relaxed);
    }

    fn write(&self, text: &mut Text, name: &str, labels: &[(&str, &str)], bounds: &[f64; BOUNDS]) {
        let counts = self.counts.iter().map(|count| count.load(Relaxed));
        let sum = self.sum_us.load(Relaxed) as f64 / 1e6;
        text.histogram(name, labels, bounds.iter().copied().zip(counts), self.beyond.load(Relaxed), sum);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl CallMetrics {
    pub fn started(&self) {
        self.started.fetch_add(1, Relaxed);
    }

    pub fn ended(&self, outcome: &Outcome, spent: Usage) {
        let word = if outcome.is_success() { "success" } else { outcome.kind() };
        if let Some(at) = OUTCOMES.iter().position(|it| *it == word) {
            self.ended[at].fetch_add(1, Relaxed);
        }
        self.took.count(&DURATIONS, spent.time);
        self.cpu_us.fetch_add(micros(spent.cpu), Relaxed);
        self.bytes_in.fetch_add(spent.bytes_in, Relaxed);
        self.bytes_out.fetch_add(spent.bytes_out, Relaxed);
        self.commands.fetch_add(spent.commands, Relaxed);
        self.commands_cpu_us.fetch_add(micros(spent.commands_cpu), Relaxed);
    }

    fn running(&self) -> u64 {
        // A process that starts and ends between the two reads must not make the difference negative.
        let ended: u64 = self.ended.iter().map(|count| count.load(Relaxed)).sum();
        self.started.load(Relaxed).saturating_sub(ended)
    }
}

impl Metrics {
    /// Returns the counters of the call with this name, which must exist.
    pub fn of(&self, call: &CallName) -> Arc<CallMetrics> {
        if let Some(known) = self.calls.read().get(call.as_str()) {
            return known.clone();
        }
        let mut calls = self.calls.write();
        let name = if calls.len() < NAMES { call.as_str() } else { OTHERS };
        calls.entry(name.into()).or_default().clone()
    }

    /// Counts a call that was not started.
    pub fn refused(&self, refusal: &Refusal) {
        let reason = match refusal {
            Refusal::NoCall(_) => "no_call",
            Refusal::ProtocolError(_) => "protocol_error",
            Refusal::UnknownCall(_) => "unknown_call",
            Refusal::Loading(_) => "loading",
            Refusal::NoProcess(_) => "unknown_process",
            Refusal::NotAuthorized(_) | Refusal::Revoked => "not_authorized",
            Refusal::BadParams(_) => "bad_params",
            Refusal::RightsChanged(_) => "rights_changed",
            Refusal::Full(Full::Server) => "server_full",
            Refusal::Full(Full::Plugin) => "plugin_full",
            Refusal::Full(Full::Caller) => "caller_full",
            Refusal::Cancelled(_) | Refusal::ShuttingDown => return self.left_queue(),
        };
        self.refuse(reason);
    }

    /// Counts a client that was refused for its first message, before anything ran.
    pub fn at_fault(&self) {
        self.refuse("protocol_error");
    }

    /// Counts a call that left the queue early: its client is gone or has cancelled it, or the server ends.
    pub fn left_queue(&self) {
        self.refuse("left_queue");
    }

    fn refuse(&self, reason: &str) {
        if let Some(at) = REASONS.iter().position(|it| *it == reason) {
            self.refused[at].fetch_add(1, Relaxed);
        }
    }

    /// Counts a call that got its slot after this time in the queue.
    pub fn waited(&self, waited: Duration) {
        self.waited.count(&WAITS, waited);
    }

    /// Writes all counters.
    pub fn write(&self, text: &mut Text) {
        let mut calls: Vec<_> = self.calls.read().iter().map(|(name, of)| (name.clone(), of.clone())).collect();
        calls.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let each = |text: &mut Text, name: &str, value: &dyn Fn(&CallMetrics) -> f64| {
            for (call, of) in &calls {
                text.sample(name, &[("call", call)], value(of));
            }
        };
        let name = "distillery_processes_running";
        text.family(name, Kind::Gauge, "Processes that run at this moment, by call.");
        each(text, name, &|of| of.running() as f64);
        let name = "distillery_processes_started_total";
        text.family(name, Kind::Counter, "Processes that were started, by call.");
        each(text, name, &|of| of.started.load(Relaxed) as f64);
        let name = "distillery_processes_ended_total";
        text.family(name, Kind::Counter, "Processes that have ended, by call and by how they ended.");
        for (call, of) in &calls {
            for (outcome, count) in OUTCOMES.iter().zip(&of.ended) {
                text.sample(name, &[("call", call), ("outcome", outcome)], count.load(Relaxed) as f64);
            }
        }
        let name = "distillery_process_duration_seconds";
        text.family(name, Kind::Histogram, "How long processes took from their start to their end, by call.");
        for (call, of) in &calls {
            of.took.write(text, name, &[("call", call)], &DURATIONS);
        }
        let name = "distillery_process_cpu_seconds_total";
        text.family(name, Kind::Counter, "How long the guests of ended processes have computed, by call.");
        each(text, name, &|of| of.cpu_us.load(Relaxed) as f64 / 1e6);
        let name = "distillery_process_input_bytes_total";
        text.family(name, Kind::Counter, "What clients sent to processes that have ended, by call.");
        each(text, name, &|of| of.bytes_in.load(Relaxed) as f64);
        let name = "distillery_process_output_bytes_total";
        text.family(name, Kind::Counter, "What processes that have ended have printed, by call.");
        each(text, name, &|of| of.bytes_out.load(Relaxed) as f64);
        let name = "distillery_commands_total";
        text.family(name, Kind::Counter, "Granted commands of ended processes, by call.");
        each(text, name, &|of| of.commands.load(Relaxed) as f64);
        let name = "distillery_commands_cpu_seconds_total";
        text.family(name, Kind::Counter, "The processor time of granted commands of ended processes, by call.");
        each(text, name, &|of| of.commands_cpu_us.load(Relaxed) as f64 / 1e6);
        let name = "distillery_calls_refused_total";
        text.family(name, Kind::Counter, "Calls that were not started, by reason.");
        for (reason, count) in REASONS.iter().zip(&self.refused) {
            text.sample(name, &[("reason", reason)], count.load(Relaxed) as f64);
        }
        let name = "distillery_queue_wait_seconds";
        text.family(name, Kind::Histogram, "How long calls waited that found no place at once, and then one.");
        self.waited.write(text, name, &[], &WAITS);
        self.hooks.write(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(metrics: &Metrics) -> String {
        let mut text = Text::default();
        metrics.write(&mut text);
        text.finish()
    }

    fn call(name: &str) -> CallName {
        name.parse().unwrap()
    }

    #[test]
    fn process_counts_for_its_call() {
        let metrics = Metrics::default();
        let echo = metrics.of(&call("echo"));
        echo.started();
        echo.started();
        let spent = Usage {
            time: Duration::from_millis(70),
            cpu: Duration::from_millis(1500),
            bytes_in: 3,
            bytes_out: 4,
            commands: 2,
            commands_cpu: Duration::from_millis(250),
        };
        echo.ended(&Outcome::Exited { status: 7, last_words: None }, spent);
        let text = written(&metrics);
        for line in [
            "distillery_processes_running{call=\"echo\"} 1",
            "distillery_processes_started_total{call=\"echo\"} 2",
            "distillery_processes_ended_total{call=\"echo\",outcome=\"exited\"} 1",
            "distillery_processes_ended_total{call=\"echo\",outcome=\"success\"} 0",
            "distillery_process_duration_seconds_bucket{call=\"echo\",le=\"0.05\"} 0",
            "distillery_process_duration_seconds_bucket{call=\"echo\",le=\"0.1\"} 1",
            "distillery_process_duration_seconds_bucket{call=\"echo\",le=\"+Inf\"} 1",
            "distillery_process_duration_seconds_count{call=\"echo\"} 1",
            "distillery_process_cpu_seconds_total{call=\"echo\"} 1.5",
            "distillery_process_input_bytes_total{call=\"echo\"} 3",
            "distillery_process_output_bytes_total{call=\"echo\"} 4",
            "distillery_commands_total{call=\"echo\"} 2",
            "distillery_commands_cpu_seconds_total{call=\"echo\"} 0.25",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn number_of_labels_is_bounded() {
        let metrics = Metrics::default();
        for number in 0..NAMES + 50 {
            metrics.of(&call(&format!("call{number}"))).started();
        }
        let text = written(&metrics);
        assert_eq!(text.matches("distillery_processes_started_total{").count(), NAMES + 1);
        assert!(text.contains("distillery_processes_started_total{call=\"(others)\"} 50"), "{text}");
    }

    #[test]
    fn refusals_count_by_reason() {
        let metrics = Metrics::default();
        metrics.refused(&Refusal::UnknownCall("made up".into()));
        metrics.refused(&Refusal::Full(Full::Plugin));
        let text = written(&metrics);
        assert!(text.contains("refused_total{reason=\"unknown_call\"} 1"), "{text}");
        assert!(text.contains("refused_total{reason=\"plugin_full\"} 1"), "{text}");
        assert!(!text.contains("made up"), "{text}");
    }
}
