//! Cost of growing work: whole calls by clients, lines by sockets, lines by length.

use crate::{
    client::{Run, Workload},
    contestant::{Contestant, Ground, Setup},
    section::{Chart, Section},
};
use anyhow::Result;

/// Numbers of clients, and of sockets.
const MANY: [usize; 5] = [1, 10, 100, 1_000, 10_000];
/// Lengths of lines. The last one is the longest that both sides accept by default.
const LENGTHS: [usize; 7] = [1, 32, 1 << 10, 8 << 10, 64 << 10, 256 << 10, 1 << 20];

/// Measures the growth; `run` gives one workload to a client process.
pub fn measure(
    ground: &Ground,
    setup: &Setup,
    contestants: &[Contestant],
    rounds: usize,
    run: impl Fn(&Contestant, &crate::contestant::Server, Option<&str>, Workload) -> Result<Run>,
) -> Result<Section> {
    let mut section = Section::new(
        "Cost as work grows",
        "Whole calls of the tiny guest by many clients at once; lines of 31 bytes through many sockets, one unanswered on \
         each; lines of different lengths through one socket, with 128 KiB unanswered. Medians of the rounds.",
    );
    let mut calls = Chart::by_tens("calls-by-clients", "Whole calls by clients at once", "clients", "calls/s");
    let mut call_p99 = Chart::by_tens("call-latency-by-clients", "Duration of a call", "clients", "p99, ms");
    let mut lines = Chart::by_tens("lines-by-sockets", "Lines by sockets", "sockets", "lines/s");
    let mut by_length = Chart::by_tens("lines-by-length", "Lines by length", "bytes a line", "lines/s");
    let mut flow = Chart::by_tens("flow-by-length", "Bytes each way by length of a line", "bytes a line", "MiB/s");
    for contestant in contestants.iter().filter(|it| matches!(it, Contestant::Ours | Contestant::Floor)) {
        let setup = Setup { processes: Some(*MANY.iter().max().unwrap_or(&1)), ..setup.clone() };
        let server = ground.start(*contestant, &setup)?;
        let name = contestant.name();
        let runs = |call: &str, workload| -> Result<Vec<Run>> {
            (0..rounds).map(|_| run(contestant, &server, Some(call), workload)).collect()
        };
        let rate = |runs: &[Run]| crate::report::over(runs, |run| run.per_second);
        for clients in MANY {
            let runs = runs("once-tiny", Workload::Calls { clients })?;
            calls.add(name, clients as f64, rate(&runs));
            let p99 = crate::report::over(&runs, |run| run.p99_us.unwrap_or(f64::NAN));
            call_p99.add(name, clients as f64, p99 / 1e3);
            eprintln!("  {name}: {:.0} calls/s by {clients} clients", rate(&runs));
        }
        for sockets in MANY {
            let runs = runs("echo", Workload::Sockets { sockets })?;
            lines.add(name, sockets as f64, rate(&runs));
            eprintln!("  {name}: {:.0} lines/s through {sockets} sockets", rate(&runs));
        }
        for bytes in LENGTHS {
            let runs = runs("echo", Workload::Length { bytes })?;
            by_length.add(name, bytes as f64, rate(&runs));
            flow.add(name, bytes as f64, rate(&runs) * bytes as f64 / f64::from(1 << 20));
            eprintln!("  {name}: {:.0} lines/s of {bytes} bytes", rate(&runs));
        }
        server.stop()?;
    }
    section.charts = vec![calls, call_p99, lines, by_length, flow];
    Ok(section)
}
