//! Time of each path: several samples, each of enough runs to be long for the clock. The median counts.

use crate::{paths::HotPath, world::World};
use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

const SAMPLES: usize = 50;
const WARM_UP: Duration = Duration::from_millis(200);

/// Nanoseconds of one run.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Time {
    pub median: f64,
    pub least: f64,
    /// Ninth of ten samples, by their time.
    pub p90: f64,
}

pub fn run(world: &World, chosen: &[&HotPath], seconds: f64, json: &Path) -> Result<()> {
    let before = fs::read_to_string(json).ok().and_then(|text| serde_json::from_str(&text).ok());
    let before: BTreeMap<String, Time> = before.unwrap_or_default();
    let mut times = before.clone();
    println!("{:<50} {:>10} {:>10} {:>10} {:>9}", "nanoseconds", "median", "least", "p90", "before");
    for path in chosen {
        let Some(mut run) = (path.make)(world)? else {
            println!("{:<50} skipped: its guest was not given", path.name);
            continue;
        };
        let time = time(&mut *run, Duration::from_secs_f64(seconds));
        let change = before.get(path.name).map(|it| format!("{:+.1} %", 100.0 * (time.median / it.median - 1.0)));
        let change = change.unwrap_or_default();
        println!("{:<50} {:>10.0} {:>10.0} {:>10.0} {change:>9}", path.name, time.median, time.least, time.p90);
        times.insert(path.name.into(), time);
    }
    if let Some(directory) = json.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(json, serde_json::to_string_pretty(&times)?).with_context(|| format!("cannot write {}", json.display()))
}

fn time(run: &mut dyn FnMut(), time: Duration) -> Time {
    let (begun, mut runs) = (Instant::now(), 0u32);
    while begun.elapsed() < WARM_UP {
        run();
        runs += 1;
    }
    let each = begun.elapsed() / runs;
    let runs = ((time / SAMPLES as u32).as_nanos() / each.as_nanos().max(1)).max(1) as u32;
    let mut samples: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let begun = Instant::now();
            (0..runs).for_each(|_| run());
            begun.elapsed().as_nanos() as f64 / f64::from(runs)
        })
        .collect();
    samples.sort_unstable_by(f64::total_cmp);
    Time { median: samples[SAMPLES / 2], least: samples[0], p90: samples[SAMPLES * 9 / 10] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slower_run_has_a_longer_time() {
        let spin = |micros| {
            move || {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_micros(micros) {}
            }
        };
        let short = time(&mut spin(1), Duration::from_millis(20));
        let long = time(&mut spin(50), Duration::from_millis(20));
        assert!(long.least >= 50_000.0 && long.least > short.least, "{short:?} {long:?}");
        assert!(long.least <= long.median && long.median <= long.p90);
    }
}
