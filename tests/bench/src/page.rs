//! The page of results: goals, how far each is reached, and every figure behind them.

use crate::{
    fairness::NATIVE,
    plot,
    report::{Report, Summary, short},
    scale::Scale,
    section::{Chart, Section},
};
use anyhow::{Context, Result};
use std::{borrow::Cow, collections::BTreeMap, fmt::Write, fs, path::Path};

/// Measurements of other programs.
#[derive(Default)]
pub struct Layers {
    /// Nanoseconds, by the name of the part.
    pub times: BTreeMap<String, f64>,
    /// Instructions.
    pub counts: BTreeMap<String, u64>,
}

impl Layers {
    /// Reads the times of `make layers` and the counts of the repository. Missing files are left out.
    pub fn read(times: &Path, counts: &Path) -> Self {
        let read =
            |path: &Path| -> Option<serde_json::Value> { serde_json::from_str(&fs::read_to_string(path).ok()?).ok() };
        let mut layers = Self::default();
        if let Some(serde_json::Value::Object(all)) = read(times) {
            let medians = all.into_iter().filter_map(|(name, time)| Some((name, time.get("median")?.as_f64()?)));
            layers.times = medians.collect();
        }
        let counts = read(counts).and_then(|it| serde_json::from_value(it.get("instructions")?.clone()).ok());
        layers.counts = counts.unwrap_or_default();
        layers
    }
}

/// A row of the table of goals.
struct Goal {
    what: &'static str,
    goal: String,
    reached: String,
    /// Share of the goal; above one is better.
    ratio: Option<f64>,
    bound: Cow<'static, str>,
}

pub fn write(report: &Report, layers: &Layers, directory: &Path) -> Result<()> {
    let pictures = directory.join("results");
    fs::create_dir_all(&pictures)?;
    let mut page = Page { text: String::new(), charts: Vec::new() };
    page.all(report, layers)?;
    for chart in &page.charts {
        let file = pictures.join(&chart.file).with_extension("svg");
        fs::write(&file, plot::svg(chart)).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let file = directory.join("results.md");
    fs::write(&file, page.text).with_context(|| format!("cannot write {}", file.display()))
}

struct Page {
    text: String,
    charts: Vec<Chart>,
}

impl Page {
    fn all(&mut self, report: &Report, layers: &Layers) -> Result<()> {
        let machine = &report.machine;
        let load = machine.load_before.split_whitespace().take(3).collect::<Vec<_>>().join(", ");
        write!(
            self.text,
            "# Results\n\n<!-- Written by `make results`. -->\n\nThe server's goals, how far it reaches them, and how it \
             compares with others, on one machine. `tests/bench/README.md` explains the measurements.\n\n\
             - {} cores of {}, Linux {}, {:.0} GiB of memory\n- load before: {load} (1, 5 and 15 minutes). The machine \
             should be idle: load makes figures worse, and ratios less exact\n- medians \
             of {} rounds of {} s each, contestants in turn, every reply checked\n",
            machine.cores,
            machine.cpu,
            machine.kernel,
            machine.memory_kib as f64 / f64::from(1 << 20),
            report.rounds,
            report.seconds
        )?;
        for skipped in &report.skipped {
            writeln!(self.text, "- left out: {skipped}")?;
        }
        self.goals(report, layers)?;
        self.rounds(report)?;
        self.layers(layers)?;
        self.scale(&report.scale)?;
        report.sections.values().try_for_each(|section| self.section(section))
    }

    fn goals(&mut self, report: &Report, layers: &Layers) -> Result<()> {
        self.heading("Goals")?;
        writeln!(self.text, "A ratio above 1 is better than the goal. A dash: not measured in this run.\n")?;
        writeln!(
            self.text,
            "| measurement | goal | reached | share of the goal | known limit |\n| --- | --- | --- | ---: | --- |"
        )?;
        for Goal { what, goal, reached, ratio, bound } in goals(report, layers) {
            let ratio = ratio.map_or("-".into(), |it| format!("{it:.2}"));
            writeln!(self.text, "| {what} | {goal} | {reached} | {ratio} | {bound} |")?;
        }
        Ok(())
    }

    fn rounds(&mut self, report: &Report) -> Result<()> {
        if report.rows.is_empty() {
            return Ok(());
        }
        self.heading("Beside others")?;
        writeln!(
            self.text,
            "`ours` runs a Rust component, `ours, tiny guest` a module of forty lines. `floor` is the same kind of socket \
             without wasm. `plain axum` is a socket as in axum's documentation, with a flush for each line. \
             `floor with wasmtime` is the floor with an instance for each call, but without limits, cancel and \
             history. `wasmtime serve` has no websockets: its whole call is a request with one line, answered \
             with this line by a new instance. `*`: the client was the bottleneck; `+`: no core was idle, and the client \
             had more of them than the server.\n\n\
             | workload | contestant | median/s | least | most | x websocketd | x floor | p50 us | p99 us | server us each |\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
        )?;
        for row in &report.rows {
            let Some(it) = &row.summary else { continue };
            let mark = match it {
                Summary { client_was_the_bottleneck: 1.., .. } => " *",
                Summary { client_filled_the_machine: 1.., .. } => " +",
                _ => "",
            };
            let maybe = |figure: Option<f64>| figure.map_or("-".into(), short);
            writeln!(
                self.text,
                "| {} | {}{mark} | {:.0} | {:.0} | {:.0} | {} | {} | {} | {} | {:.2} |",
                row.workload,
                row.contestant,
                it.median,
                it.least,
                it.most,
                maybe(it.times_websocketd),
                maybe(it.times_floor),
                maybe(it.p50_us),
                maybe(it.p99_us),
                it.server_us_each
            )?;
        }
        writeln!(self.text)?;
        for (contestant, times) in &report.started_in_ms {
            let Some((first, rest)) = times.split_first() else { continue };
            let rest = if rest.is_empty() {
                String::new()
            } else {
                format!(", {} after that", short(crate::report::median(rest.to_vec())))
            };
            writeln!(self.text, "- {contestant} serves after {} ms the first time{rest}", short(*first))?;
        }
        Ok(())
    }

    fn layers(&mut self, layers: &Layers) -> Result<()> {
        if layers.times.is_empty() && layers.counts.is_empty() {
            return Ok(());
        }
        self.heading("Layers")?;
        writeln!(
            self.text,
            "The parts of the server, one by one, on one thread and without the kernel: times of `make layers`, instructions of \
             `make counts`. This table locates the part that became slower. The counts are those of \
             `tests/bench/counts.json`, of a build for tests: compare them with each other, and with other commits.\n\n\
             | part | us | instructions |\n| --- | ---: | ---: |"
        )?;
        let mut names: Vec<_> = layers.times.keys().chain(layers.counts.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let time = layers.times.get(name).map_or("-".into(), |nanos| short(nanos / 1e3));
            let count = layers.counts.get(name).map_or("-".into(), u64::to_string);
            writeln!(self.text, "| {name} | {time} | {count} |")?;
        }
        Ok(())
    }

    fn scale(&mut self, scale: &BTreeMap<String, Scale>) -> Result<()> {
        if scale.is_empty() {
            return Ok(());
        }
        self.heading("Waiting processes")?;
        writeln!(
            self.text,
            "Many sockets, each with an echo that has answered one line and waits for the next. The floor has the same \
             sockets without processes.\n\n\
             | contestant | requested | open | seconds | memory | each | mappings each | answer still |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
        )?;
        for (who, it) in scale {
            writeln!(
                self.text,
                "| {who} | {} | {} | {:.2} | {:.0} MiB | {:.1} KiB | {:.2} | {} of {} |",
                it.asked,
                it.opened,
                it.seconds,
                it.open.rss_kib as f64 / 1024.0,
                it.kib_each(),
                it.mappings_each(),
                it.still_echo,
                it.asked_again
            )?;
        }
        writeln!(self.text)?;
        for (who, it) in scale {
            for (message, count) in &it.failures {
                let (least, most) = it.failed_within.unwrap_or_default();
                writeln!(
                    self.text,
                    "- {who}: after {} had opened, the next {count} were refused within {least:.2} to {most:.2} s: {}",
                    it.opened,
                    message.replace('|', "\\|")
                )?;
            }
            writeln!(
                self.text,
                "- {who}: {:.0} MiB before, {:.0} MiB after all had left; {} and {} mappings",
                it.before.rss_kib as f64 / 1024.0,
                it.after.rss_kib as f64 / 1024.0,
                it.before.mappings,
                it.after.mappings
            )?;
        }
        let mut memory = linear("memory-by-processes", "Memory by waiting processes", "MiB");
        let mut mappings = linear("mappings-by-processes", "Mappings by waiting processes", "mappings");
        let mut started = linear("start-by-processes", "Time until all wait", "seconds");
        for (who, it) in scale {
            for mark in &it.series {
                let opened = mark.opened as f64;
                memory.add(who, opened, mark.occupied.rss_kib as f64 / 1024.0);
                mappings.add(who, opened, mark.occupied.mappings as f64);
                started.add(who, opened, mark.seconds);
            }
        }
        [memory, mappings, started].into_iter().try_for_each(|chart| self.chart(&chart))
    }

    fn section(&mut self, section: &Section) -> Result<()> {
        self.heading(&section.title)?;
        writeln!(self.text, "{}", section.how)?;
        if !section.notes.is_empty() {
            writeln!(self.text)?;
            section.notes.iter().try_for_each(|note| writeln!(self.text, "- {note}"))?;
        }
        section.charts.iter().try_for_each(|chart| self.chart(chart))
    }

    /// Adds a chart, and a table of its figures.
    fn chart(&mut self, chart: &Chart) -> Result<()> {
        if chart.series.is_empty() {
            return Ok(());
        }
        writeln!(self.text, "\n![{}](results/{}.svg)\n", chart.title, chart.file)?;
        write!(self.text, "| {} |", chart.x)?;
        chart.series.iter().try_for_each(|it| write!(self.text, " {}, {} |", it.name, chart.y))?;
        writeln!(self.text, "\n| ---: |{}", " ---: |".repeat(chart.series.len()))?;
        let mut places: Vec<f64> = chart.series.iter().flat_map(|it| &it.points).map(|it| it.0).collect();
        places.sort_unstable_by(f64::total_cmp);
        places.dedup();
        for place in places {
            write!(self.text, "| {place} |")?;
            for series in &chart.series {
                let figure = series.points.iter().find(|it| it.0 == place).map_or("-".into(), |it| short(it.1));
                write!(self.text, " {figure} |")?;
            }
            writeln!(self.text)?;
        }
        self.charts.push(chart.clone());
        Ok(())
    }

    fn heading(&mut self, title: &str) -> Result<()> {
        Ok(writeln!(self.text, "\n## {title}\n")?)
    }
}

fn linear(file: &str, title: &str, y: &str) -> Chart {
    Chart { log_x: false, log_y: false, ..Chart::by_tens(file, title, "waiting processes", y) }
}

fn goals(report: &Report, layers: &Layers) -> Vec<Goal> {
    let fact = |name: &str| report.sections.values().find_map(|it| it.facts.get(name)).copied();
    let rate = |workload: &str, contestant: &str| {
        let row = report.rows.iter().find(|row| row.workload == workload && row.contestant == contestant);
        row.and_then(|row| row.summary.clone())
    };
    let micros = |layer: &str| layers.times.get(layer).map(|nanos| nanos / 1e3);
    // The server's own share of a call, without cold caches and other load.
    let alone = || {
        let connection = micros("frames: a whole connection without a guest")?;
        let instance = micros("runtime: start, a line, end")?;
        let whole = micros("session: a whole call")?;
        let noted = micros("history: a process noted")?;
        Some(format!(
            ". On one thread, without a kernel and with warm caches, a call takes {} us: {} the connection, {} the instance, \
             {} the server's own, and {} more for the record in the history (layers). The rest is the cost of the \
             threads: cold caches, wakeups, and the thread that writes the history",
            short(whole),
            short(connection),
            short(instance),
            short(whole - connection - instance),
            short(noted)
        ))
    };
    // The floor with the same guests and wasmtime alone is the minimum for a sandbox.
    let sandbox = |workload: &str, contestant: &str, bare: &str| {
        let Some((ours, bare)) = rate(workload, contestant).zip(rate(workload, bare)) else {
            return "an instance of wasmtime for each call".to_owned();
        };
        let of = ours.median / bare.median;
        let whose = match of {
            0.9.. => "an instance of wasmtime for each call".to_owned(),
            _ => format!(
                "the server's own {:.0} us for each call: routing and authorization, WASI, interruption, limits, history{}",
                ours.server_us_each - bare.server_us_each,
                alone().unwrap_or_default()
            ),
        };
        let floor = bare.times_floor.map_or_else(String::new, |times| format!(", {times:.2} of the floor"));
        format!(
            "{whose}. The floor with just an instance of wasmtime reaches {:.0}/s{floor} with {:.0} us of server time; \
             this is {of:.2} of that, with {:.0} us",
            bare.median, bare.server_us_each, ours.server_us_each
        )
    };
    let mut goals = Vec::new();
    let mut ratios = |what, workload: &str, contestant: &str, (websocketd, floor): (f64, f64), bound: String| {
        let it = rate(workload, contestant);
        let times = |times: Option<f64>| times.map_or("-".into(), |it| format!("{it:.2}"));
        let (x, of) = (it.as_ref().and_then(|it| it.times_websocketd), it.as_ref().and_then(|it| it.times_floor));
        let plain = it.as_ref().zip(rate(workload, "plain axum")).map(|(it, plain)| it.median / plain.median);
        let reached = match &it {
            None => "-".into(),
            Some(summary) => format!(
                "{:.0}/s ({}): {} x websocketd, {} of the floor, {} of plain axum",
                summary.median,
                contestant,
                times(x),
                times(of),
                times(plain)
            ),
        };
        let least = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        // The goal is to be faster than the simplest socket; the floor is one that is written to be fast.
        let (goal, of) = match floor {
            1.0 => (format!("{websocketd} x websocketd, ahead of plain axum"), plain),
            _ => (format!("{websocketd} x websocketd, {floor} of the floor"), of),
        };
        let ratio = least(x.map(|it| it / websocketd), of.map(|it| it / floor));
        goals.push(Goal { what, goal, reached, ratio, bound: bound.into() });
    };
    let many = "whole calls a second, 32 clients";
    let calls = sandbox("whole calls, 32 clients", "ours", "floor with wasmtime");
    ratios(many, "whole calls, 32 clients", "ours", (8.5, 0.95), calls);
    let calls = sandbox("whole calls, 32 clients", "ours, tiny guest", "floor with wasmtime, tiny guest");
    ratios("the same, tiny guest", "whole calls, 32 clients", "ours, tiny guest", (8.5, 0.95), calls);
    let one = "whole calls a second, 1 client";
    let calls = sandbox("whole calls, 1 client", "ours", "floor with wasmtime");
    ratios(one, "whole calls, 1 client", "ours", (6.0, 0.9), calls);
    let calls = sandbox("whole calls, 1 client", "ours, tiny guest", "floor with wasmtime, tiny guest");
    ratios("the same, tiny guest", "whole calls, 1 client", "ours, tiny guest", (6.0, 0.9), calls);
    let line = |workload: &str| Some(rate(workload, "ours")?.server_us_each - rate(workload, "floor")?.server_us_each);
    let through = |layer: &str, lines: f64| micros(layer).map(|it| it / lines);
    let told = |beyond: Option<f64>, part: Option<f64>, guest: &str| match beyond.zip(part) {
        Some((beyond, part)) => format!(
            "a line takes {} us of server time beyond the floor; {} us of that is the way into {guest} and out again \
             (layers)",
            short(beyond),
            short(part)
        ),
        None => "the way into the guest and out again (layers)".into(),
    };
    let lines = "lines, 1024 on their way";
    let bound = told(line(lines), through("runtime: 1024 lines there and back", 1024.0), "a guest without a library");
    ratios("lines echoed a second, pipelined", lines, "ours", (5.5, 0.8), bound);
    let lines = "one line there and back";
    let layer = through("runtime: a line there and back, Rust component", 1.0);
    let waking = rate(lines, "floor").and_then(|it| it.times_websocketd).map_or_else(String::new, |times| {
        format!(". Most of it wakes a thread on each side: the floor itself is {times:.2} x websocketd")
    });
    let bound = told(line(lines), layer, "the guest") + &waking;
    ratios(lines, lines, "ours", (2.0, 1.0), bound);

    let mut less = |what, goal: &str, wanted: f64, reached: Option<f64>, unit: &str, bound: &str| {
        let shown = reached.map_or("-".into(), |it| format!("{} {unit}", short(it)));
        let ratio = reached.map(|it| wanted / it.max(1e-9));
        goals.push(Goal { what, goal: goal.into(), reached: shown, ratio, bound: bound.to_owned().into() });
    };
    let fresh = |bare: Option<f64>| {
        let bare = bare.map_or_else(String::new, |it| format!(". `bare wasmtime` takes {} us", short(it)));
        format!("a fresh instance: its memory is mapped, touched and cleared{bare}")
    };
    let bound = fresh(micros("bare wasmtime: start, a line, end"));
    let tiny = micros("runtime: start, a line, end");
    less("start a process and end it, no socket (tiny guest)", "10 us", 10.0, tiny, "us", &bound);
    let bound = fresh(micros("bare wasmtime: start, a line, end, Rust component"));
    let rust = micros("runtime: start, a line, end, Rust component");
    less("the same, Rust component", "10 us", 10.0, rust, "us", &bound);
    let scale = report.scale.get("ours");
    let held = scale.filter(|it| it.asked >= 10_000);
    let pages = "touched pages of each guest's memory and stack";
    let gib = held.map(|it| it.open.rss_kib as f64 / f64::from(1 << 20));
    less("10,000 processes waiting for input, memory", "1.5 GiB", 1.5, gib, "GiB", pages);
    let seconds = held.map(|it| it.seconds);
    less("10,000 processes waiting for input, until all wait", "5 s", 5.0, seconds, "s", "a whole call, as above");
    let idle = fact("a cancel, interrupted 0 p99");
    let kernel = fact(NATIVE).map_or_else(String::new, |native| {
        format!(
            "the kernel, which lets the thread that reads the socket wait for one that computes: the floor, which ends \
             a thread of its own by a flag, takes {} ms",
            short(native)
        )
    });
    less("cancel of a tight loop, idle machine, p99", "1 ms", 1.0, idle, "ms", &kernel);
    let turns = "guests take turns of a millisecond on two cores";
    let busy = fact("a cancel, interrupted 64 p99");
    less("cancel while 64 guests spin, p99", "50 ms", 50.0, busy, "ms", turns);
    let auth = fact("GET auth 64 p99");
    less("GET auth meanwhile, p99", "50 ms", 50.0, auth, "ms", "the kernel's scheduler: guests run at nice 10");
    let quiet = "a debounce of 50 ms after the last change, then a process that compiles";
    less("swap under load, from the rename", "200 ms", 200.0, fact("swap_p50_ms"), "ms (median)", quiet);
    let warm = "mapping the compiled code, and creating the pool";
    less("start with a warm cache, 10 plugins", "100 ms", 100.0, fact("start_warm_10_ms"), "ms", warm);
    let swaps = fact("swaps").zip(fact("swap_failed_calls"));
    goals.push(Goal {
        what: "swaps under load, failed calls",
        goal: "1000 swaps, none failed".into(),
        reached: swaps.map_or("-".into(), |(swaps, failed)| format!("{swaps} swaps, {failed} failed")),
        ratio: None,
        bound: "a process keeps the generation that it started with".into(),
    });
    let refused = report.scale.get("ours, past the ceiling");
    goals.push(Goal {
        what: "past the capacity",
        goal: "a clear failure".into(),
        reached: refused.map_or("-".into(), |it| {
            let said = it.failures.keys().next().map_or("none failed", String::as_str);
            format!("after {}: {}", it.opened, said.replace('|', "\\|"))
        }),
        ratio: None,
        bound: "vm.max_map_count, of which each process needs six".into(),
    });
    goals
}
