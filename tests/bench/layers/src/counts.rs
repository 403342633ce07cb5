//! Instructions of each path, counted by callgrind. Unlike times, they hardly depend on other load on the machine.
//!
//! One process runs all paths under callgrind. It calls [`mark_of_a_block`] before and after each block of runs, and
//! callgrind writes a dump at each mark: the dump after a block has the instructions of the main thread for that block.

use crate::{paths::HotPath, world::World};
use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeMap,
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Blocks that are counted for each path. The lowest count is taken; a higher one includes a hash table that grew, or a
/// tick.
const BLOCKS: usize = 5;
/// Difference that is always allowed: 5 % of the shortest paths are two instructions.
const SLACK: u64 = 8;
/// Runs before the first block, after which every buffer has its final size.
const WARM_UP: u32 = 30;

#[derive(clap::Args)]
pub struct Arguments {
    /// The counts in the repository.
    #[arg(long, default_value = "tests/bench/counts.json")]
    file: PathBuf,
    /// Write the counts to the file, instead of comparing them with it.
    #[arg(long)]
    record: bool,
    /// Largest difference from the recorded count, in percent.
    #[arg(long, default_value_t = 5.0)]
    tolerance: f64,
}

/// Instructions of one run, by the name of the path.
type Counts = BTreeMap<String, u64>;

#[derive(serde::Serialize, serde::Deserialize)]
struct Recorded {
    /// Tools and processor, on which the counts depend.
    counted_with: String,
    instructions: Counts,
}

pub fn run(how: &Arguments, only: &str, chosen: &[&HotPath]) -> Result<()> {
    if !valgrind_is_installed() {
        let missing = "valgrind could not be installed: apt-get install valgrind";
        ensure!(std::env::var_os("CI").is_none(), "{missing}");
        println!("SKIPPED: counting the instructions of the hot paths: {missing}");
        return Ok(());
    }
    let counts = count(only, chosen)?;
    if how.record {
        let recorded = Recorded { counted_with: counted_with()?, instructions: counts };
        fs::write(&how.file, serde_json::to_string_pretty(&recorded)? + "\n")
            .with_context(|| format!("cannot write {}", how.file.display()))?;
        println!("recorded: {}", how.file.display());
        return Ok(());
    }
    let text = fs::read_to_string(&how.file)
        .with_context(|| format!("no counts in {}: make them with `make counts-record`", how.file.display()))?;
    let recorded: Recorded = serde_json::from_str(&text)?;
    let told = compare(&recorded.instructions, &counts, how.tolerance, only.is_empty());
    told.lines.iter().for_each(|line| println!("{line}"));
    let now = counted_with()?;
    if now != recorded.counted_with {
        println!("recorded with {}, counted with {now}", recorded.counted_with);
    }
    println!("{} passed, {} failed", told.within, told.beyond);
    ensure!(
        told.beyond == 0,
        "the hot paths have changed: if intended, run `make counts-record` and give the reason in the commit"
    );
    Ok(())
}

/// Result of a comparison.
#[derive(Debug, Default, PartialEq)]
struct Told {
    lines: Vec<String>,
    within: usize,
    beyond: usize,
}

/// Compares the counts. With `all`, each recorded path must have been counted.
fn compare(recorded: &Counts, counted: &Counts, tolerance: f64, all: bool) -> Told {
    let mut told = Told::default();
    for (name, now) in counted {
        let (line, good) = match recorded.get(name) {
            None => (format!("{name:<44} {now:>9}, not recorded"), false),
            Some(before) => {
                let percent = 100.0 * (*now as f64 - *before as f64) / (*before as f64).max(1.0);
                let good = percent.abs() <= tolerance || now.abs_diff(*before) <= SLACK;
                let mark = if good {
                    ""
                } else if percent > 0.0 {
                    "  MORE"
                } else {
                    "  LESS"
                };
                (format!("{name:<44} {now:>9} {before:>9} recorded {percent:>+7.2} %{mark}"), good)
            }
        };
        told.lines.push(line);
        if good { told.within += 1 } else { told.beyond += 1 }
    }
    for name in recorded.keys().filter(|name| all && !counted.contains_key(*name)) {
        told.lines.push(format!("{name:<44} is recorded, but no longer exists"));
        told.beyond += 1;
    }
    told
}

fn count(only: &str, chosen: &[&HotPath]) -> Result<Counts> {
    let directory = tempfile::Builder::new().prefix("distillery-counts-").tempdir()?;
    let out = directory.path().join("dump");
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--dump-before=*mark_of_a_block*", "--separate-threads=yes", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(["--only", only, "count"])
        .stdin(Stdio::null())
        .output()
        .context("cannot run valgrind")?;
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "the paths failed under callgrind ({}):\n{said}", ran.status);
    // The part before the first mark prepares the first path.
    let mut dump = 1;
    let mut counts = Counts::new();
    for path in chosen {
        let Some(runs) = path.counted else { continue };
        let mut least = u64::MAX;
        for _ in 0..BLOCKS {
            dump += 1;
            least = least.min(total(&directory.path().join(format!("dump.{dump}-01")))?);
        }
        // The part between the last mark of a path and the first of the next prepares the next.
        dump += 1;
        counts.insert(path.name.into(), least / u64::from(runs));
    }
    Ok(counts)
}

/// Returns all instructions of a dump.
fn total(dump: &Path) -> Result<u64> {
    let text = fs::read_to_string(dump).with_context(|| format!("callgrind left no {}", dump.display()))?;
    let totals = text.lines().find_map(|line| line.strip_prefix("totals:").or(line.strip_prefix("summary:")));
    totals.and_then(|it| it.trim().parse().ok()).with_context(|| format!("no total in {}", dump.display()))
}

/// Runs the paths. This part runs under callgrind.
pub fn work(world: &World, chosen: &[&HotPath]) -> Result<()> {
    for path in chosen {
        let Some(runs) = path.counted else { continue };
        let mut run = (path.make)(world)?.with_context(|| format!("{} needs what it was not given", path.name))?;
        (0..WARM_UP).for_each(|_| run());
        for block in 0..=BLOCKS {
            mark_of_a_block(block);
            if block < BLOCKS {
                (0..runs).for_each(|_| run());
            }
        }
    }
    Ok(())
}

/// Callgrind makes a dump at this function.
#[inline(never)]
fn mark_of_a_block(block: usize) {
    black_box(block);
}

/// Returns the tools and the processor, on which the counts depend.
fn counted_with() -> Result<String> {
    let said = |program: &str| -> Result<String> {
        let output =
            Command::new(program).arg("--version").output().with_context(|| format!("cannot run {program}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    Ok(format!("{}, {}", said("valgrind")?, said("rustc")?))
}

/// Tells whether valgrind is installed; installs Debian's if allowed.
fn valgrind_is_installed() -> bool {
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let done = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    };
    let here = || run("valgrind", &["--version"]);
    if here() {
        return true;
    }
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/apt-get").exists() {
        return false;
    }
    println!("valgrind is not installed: installing Debian's");
    let install = ["install", "--yes", "--no-install-recommends", "valgrind"];
    (run("apt-get", &install) || (run("apt-get", &["update"]) && run("apt-get", &install))) && here()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> Counts {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn count_beyond_the_tolerance_is_reported() {
        let recorded = counts(&[("a", 1000), ("b", 1000), ("c", 1000)]);
        let told = compare(&recorded, &counts(&[("a", 1049), ("b", 1051), ("c", 949)]), 5.0, true);
        assert_eq!((told.within, told.beyond), (1, 2));
        assert!(told.lines[1].ends_with("MORE") && told.lines[2].ends_with("LESS"), "{told:?}");
    }

    #[test]
    fn few_instructions_of_a_short_path_are_tolerated() {
        let recorded = counts(&[("a", 50), ("b", 50), ("c", 50)]);
        let told = compare(&recorded, &counts(&[("a", 58), ("b", 59), ("c", 41)]), 5.0, true);
        assert_eq!((told.within, told.beyond), (1, 2));
    }

    #[test]
    fn new_or_missing_path_is_reported() {
        let told = compare(&counts(&[("gone", 1)]), &counts(&[("new", 1)]), 5.0, true);
        assert_eq!((told.within, told.beyond), (0, 2));
        assert_eq!(compare(&counts(&[("not asked", 1)]), &counts(&[]), 5.0, false), Told::default());
    }
}
