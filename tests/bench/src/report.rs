//! The results of the rounds: medians, ratios, one table for people and one file for programs.

use crate::{
    client::{HeldBack, Run},
    machine::Machine,
    scale::Scale,
    section::{Chart, Section},
};
use std::{collections::BTreeMap, fmt};

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Report {
    pub machine: Machine,
    pub rounds: usize,
    pub seconds: f64,
    pub skipped: Vec<String>,
    pub rows: Vec<Row>,
    /// Milliseconds from the start of a contestant until it serves, by round.
    pub started_in_ms: BTreeMap<String, Vec<f64>>,
    pub scale: BTreeMap<String, Scale>,
    /// Other measurements, by name.
    #[serde(default)]
    pub sections: BTreeMap<String, Section>,
}

/// One contestant with one workload.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Row {
    pub workload: String,
    pub contestant: String,
    pub unit: String,
    pub runs: Vec<Run>,
    /// Filled in by [`Report::finish`].
    pub summary: Option<Summary>,
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub client_cores: f64,
    pub server_cores: f64,
    /// CPU time of the server for one call or line.
    pub server_us_each: f64,
    /// Ratio of the medians of the same workload.
    pub times_websocketd: Option<f64>,
    pub times_floor: Option<f64>,
    /// Runs in which the client was the bottleneck.
    pub client_was_the_bottleneck: usize,
    /// Runs in which no core was idle and the client used more of them than the server.
    pub client_filled_the_machine: usize,
}

impl Report {
    /// Adds one run to its row. Rows keep the order in which workloads and contestants first appear.
    pub fn add(&mut self, workload: &str, unit: &str, contestant: &str, run: Run) {
        let same = |row: &&mut Row| row.workload == workload && row.contestant == contestant;
        match self.rows.iter_mut().find(same) {
            Some(row) => row.runs.push(run),
            None => {
                let [workload, contestant, unit] = [workload, contestant, unit].map(str::to_owned);
                self.rows.push(Row { workload, contestant, unit, runs: vec![run], summary: None });
            }
        }
    }

    /// Computes the summaries of all runs, and sorts the rows by workload.
    pub fn finish(&mut self) {
        let mut workloads: Vec<String> = Vec::new();
        for row in &self.rows {
            if !workloads.contains(&row.workload) {
                workloads.push(row.workload.clone());
            }
        }
        let place = |row: &Row| {
            let first = ["websocketd", "wasmtime serve", "plain axum", "floor"];
            let contestant = first.iter().position(|name| *name == row.contestant).unwrap_or(first.len());
            (workloads.iter().position(|name| *name == row.workload), contestant)
        };
        self.rows.sort_by_key(place);
        let rates: Vec<f64> = self.rows.iter().map(|row| over(&row.runs, |run| run.per_second)).collect();
        let names: Vec<_> = self.rows.iter().map(|row| (row.workload.clone(), row.contestant.clone())).collect();
        for (index, row) in self.rows.iter_mut().enumerate() {
            let median = rates[index];
            let times = |other: &str| {
                let at = names.iter().position(|(workload, name)| *workload == row.workload && name == other)?;
                Some(median / rates[at])
            };
            let held_back = |by| row.runs.iter().filter(|run| run.held_back_by == Some(by)).count();
            let all = || row.runs.iter().map(|run| run.per_second);
            let latency = |of: fn(&Run) -> Option<f64>| {
                of(&row.runs[0]).map(|_| over(&row.runs, |run| of(run).unwrap_or(f64::NAN)))
            };
            row.summary = Some(Summary {
                median,
                least: all().fold(f64::INFINITY, f64::min),
                most: all().fold(0.0, f64::max),
                p50_us: latency(|run| run.p50_us),
                p99_us: latency(|run| run.p99_us),
                client_cores: over(&row.runs, |run| run.client_cores),
                server_cores: over(&row.runs, |run| run.server_cores),
                server_us_each: over(&row.runs, |run| 1e6 * run.server_cores / run.per_second),
                times_websocketd: times("websocketd"),
                times_floor: times("floor"),
                client_was_the_bottleneck: held_back(HeldBack::BusyClient),
                client_filled_the_machine: held_back(HeldBack::FullMachine),
            });
        }
    }
}

/// Returns the median of one figure over all runs.
pub fn over(runs: &[Run], figure: impl Fn(&Run) -> f64) -> f64 {
    median(runs.iter().map(figure).collect())
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

impl Report {
    fn rounds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "medians of {} rounds of {} s each, every reply checked\n", self.rounds, self.seconds)?;
        writeln!(
            f,
            "{:<26} {:<16} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8} {:>7} {:>7} {:>9}",
            "",
            "",
            "median/s",
            "least",
            "most",
            "x wsd",
            "x floor",
            "p50 us",
            "p99 us",
            "server",
            "client",
            "server us"
        )?;
        let mut before = "";
        for Row { workload, contestant, summary, .. } in &self.rows {
            let Some(it) = summary else { continue };
            let title = if workload == before { "" } else { workload };
            before = workload;
            let mark = match it {
                Summary { client_was_the_bottleneck: 1.., .. } => " *",
                Summary { client_filled_the_machine: 1.., .. } => " +",
                _ => "",
            };
            writeln!(
                f,
                "{title:<26} {:<16} {:>9.0} {:>9.0} {:>9.0} {:>8} {:>8} {:>8} {:>8} {:>7.2} {:>7.2} {:>9.2}",
                format!("{contestant}{mark}"),
                it.median,
                it.least,
                it.most,
                maybe(it.times_websocketd, 2),
                maybe(it.times_floor, 2),
                maybe(it.p50_us, 0),
                maybe(it.p99_us, 0),
                it.server_cores,
                it.client_cores,
                it.server_us_each
            )?;
        }
        writeln!(f, "\nserver, client: cores kept busy; server us: CPU time of the server for each call or line")?;
        writeln!(f, "* the client was the bottleneck at least once: a thread of it was never idle")?;
        writeln!(f, "+ no core was idle and the client used more of them: the server alone would do more")?;

        writeln!(f, "\nfrom the start of the program until it serves, milliseconds:")?;
        for (contestant, times) in &self.started_in_ms {
            let (first, rest) = (times[0], times[1..].to_vec());
            write!(f, "  {contestant:<16} {first:>8.1} the first time")?;
            if rest.is_empty() { writeln!(f) } else { writeln!(f, ", {:.1} after that", median(rest)) }?;
        }

        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cores, cpu, kernel, load_before, .. } = &self.machine;
        writeln!(f, "{cores} cores, {cpu}, Linux {kernel}; load before: {load_before}")?;
        if !self.rows.is_empty() {
            self.rounds(f)?;
        }

        for (contestant, it) in &self.scale {
            writeln!(
                f,
                "\n{contestant}: {} of {} waiting processes opened in {:.2} s",
                it.opened, it.asked, it.seconds
            )?;
            for (when, occupied) in [("before", &it.before), ("all open", &it.open), ("after", &it.after)] {
                writeln!(
                    f,
                    "  {when:<9} {:>9.1} MiB  {:>7} mappings  {:>4} threads  {:>6} open files",
                    occupied.rss_kib as f64 / 1024.0,
                    occupied.mappings,
                    occupied.threads,
                    occupied.open_files
                )?;
            }
            writeln!(f, "  each      {:>9.1} KiB  {:>7.2} mappings", it.kib_each(), it.mappings_each())?;
            writeln!(f, "  {} of {} still echo while all are open", it.still_echo, it.asked_again)?;
            if it.not_tried > 0 {
                writeln!(f, "  {} were not tried after the others failed", it.not_tried)?;
            }
            if let Some((least, most)) = it.failed_within {
                writeln!(f, "  those that failed did so within {least:.2} to {most:.2} s")?;
            }
            it.failures.iter().try_for_each(|(message, count)| writeln!(f, "  failed, {count} times: {message}"))?;
        }
        for section in self.sections.values() {
            write!(f, "\n{section}")?;
        }
        self.skipped.iter().try_for_each(|what| writeln!(f, "\nskipped: {what}"))
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))?;
        for Chart { title, x, y, series, .. } in &self.charts {
            writeln!(f, "  {title} ({y}, by {x})")?;
            for line in series {
                write!(f, "    {:<26}", line.name)?;
                line.points.iter().try_for_each(|(x, y)| write!(f, " {x}: {}", short(*y)))?;
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// Formats a figure with three significant digits, or more if it is large.
pub fn short(figure: f64) -> String {
    let digits = match figure.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{figure:.digits$}")
}

fn maybe(figure: Option<f64>, digits: usize) -> String {
    figure.map_or("-".into(), |it| format!("{it:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(per_second: f64) -> Run {
        Run {
            done: 1,
            seconds: 1.0,
            per_second,
            p50_us: None,
            p99_us: None,
            client_cores: 0.5,
            server_cores: 1.0,
            busiest_thread: 0.5,
            held_back_by: None,
        }
    }

    #[test]
    fn ratios_compare_medians_of_one_workload() {
        let mut report = Report {
            machine: Machine::look(),
            rounds: 3,
            seconds: 1.0,
            skipped: vec![],
            rows: vec![],
            started_in_ms: BTreeMap::new(),
            scale: BTreeMap::new(),
            sections: BTreeMap::new(),
        };
        for (ours, websocketd) in [(10.0, 1.0), (90.0, 2.0), (20.0, 400.0)] {
            report.add("calls", "calls", "ours", run(ours));
            report.add("lines", "lines", "websocketd", run(7.0));
            report.add("calls", "calls", "websocketd", run(websocketd));
        }
        report.finish();
        let ours = report.rows.iter().find(|row| row.contestant == "ours").and_then(|row| row.summary.clone()).unwrap();
        assert_eq!((ours.least, ours.median, ours.most), (10.0, 20.0, 90.0));
        assert_eq!((ours.times_websocketd, ours.times_floor), (Some(10.0), None));
        let order: Vec<_> = report.rows.iter().map(|row| (row.workload.as_str(), row.contestant.as_str())).collect();
        assert_eq!(order, [("calls", "websocketd"), ("calls", "ours"), ("lines", "websocketd")]);
    }
}
