//! Instructions of each path, counted by callgrind: where times depend on what else the machine does, these hardly do.
//!
//! One process runs all paths under callgrind. It calls [`mark_of_a_block`] before and after each block of runs, and callgrind writes
//! a dump whenever it comes there: what the dump after a block has for the main thread is what the block took.

use crate::{paths::HotPath, world::World};
use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeMap,
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// How many blocks of each path are counted; the least counts. What is above it is a hash table that grew, or a tick.
const BLOCKS: usize = 5;
/// What a path may always take more, or less: of the shortest ones, 5 in 100 are two instructions.
const SLACK: u64 = 8;
/// Runs before that, so that every buffer has its size.
const WARM_UP: u32 = 30;

#[derive(clap::Args)]
pub struct Arguments {
    /// The counts that are kept in the repository.
    #[arg(long, default_value = "tests/bench/counts.json")]
    file: PathBuf,
    /// Write the counts to the file, instead of comparing them with it.
    #[arg(long)]
    record: bool,
    /// How many percent a path may take more, or less, than is recorded.
    #[arg(long, default_value_t = 5.0)]
    tolerance: f64,
}

/// Instructions of one run, by the name of the path.
type Counts = BTreeMap<String, u64>;

#[derive(serde::Serialize, serde::Deserialize)]
struct Recorded {
    /// What they depend on beside the code.
    counted_with: String,
    instructions: Counts,
}

pub fn run(how: &Arguments, only: &str, chosen: &[&HotPath]) -> Result<()> {
    if !valgrind_is_installed() {
        let missing = "valgrind is not installed, and could not be: apt-get install valgrind";
        ensure!(std::env::var_os("CI").is_none(), "{missing}");
        println!("SKIPPED: the instructions of the hot paths are not counted, as {missing}");
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
        "the hot paths are not what they were: if that is meant, `make counts-record` and say why in the commit"
    );
    Ok(())
}

/// What a comparison came to.
#[derive(Debug, Default, PartialEq)]
struct Told {
    lines: Vec<String>,
    within: usize,
    beyond: usize,
}

/// Of `all`, a path that is recorded must be counted too.
fn compare(recorded: &Counts, counted: &Counts, tolerance: f64, all: bool) -> Told {
    let mut told = Told::default();
    for (name, now) in counted {
        let (line, good) = match recorded.get(name) {
            None => (format!("{name:<44} {now:>9}, and none recorded"), false),
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
        told.lines.push(format!("{name:<44} is recorded, and there is no such path any more"));
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
    ensure!(ran.status.success(), "the paths do not run under callgrind ({}):\n{said}", ran.status);
    // What comes before the first mark is the making of the first path.
    let mut dump = 1;
    let mut counts = Counts::new();
    for path in chosen {
        let Some(runs) = path.counted else { continue };
        let mut least = u64::MAX;
        for _ in 0..BLOCKS {
            dump += 1;
            least = least.min(total(&directory.path().join(format!("dump.{dump}-01")))?);
        }
        // From the last mark of this path to the first one of the next.
        dump += 1;
        counts.insert(path.name.into(), least / u64::from(runs));
    }
    Ok(counts)
}

/// All instructions of a dump.
fn total(dump: &Path) -> Result<u64> {
    let text = fs::read_to_string(dump).with_context(|| format!("callgrind left no {}", dump.display()))?;
    let totals = text.lines().find_map(|line| line.strip_prefix("totals:").or(line.strip_prefix("summary:")));
    totals.and_then(|it| it.trim().parse().ok()).with_context(|| format!("no total in {}", dump.display()))
}

/// The part of it that runs under callgrind.
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

/// Where callgrind makes a dump.
#[inline(never)]
fn mark_of_a_block(block: usize) {
    black_box(block);
}

/// Tools and processor: both have a say in what is executed.
fn counted_with() -> Result<String> {
    let said = |program: &str| -> Result<String> {
        let output =
            Command::new(program).arg("--version").output().with_context(|| format!("cannot run {program}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    Ok(format!("{}, {}", said("valgrind")?, said("rustc")?))
}

/// Whether valgrind is here; installs Debian's where it may.
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
    fn a_path_that_takes_more_or_less_than_it_may_is_told() {
        let recorded = counts(&[("a", 1000), ("b", 1000), ("c", 1000)]);
        let told = compare(&recorded, &counts(&[("a", 1049), ("b", 1051), ("c", 949)]), 5.0, true);
        assert_eq!((told.within, told.beyond), (1, 2));
        assert!(told.lines[1].ends_with("MORE") && told.lines[2].ends_with("LESS"), "{told:?}");
    }

    #[test]
    fn a_few_instructions_of_a_short_path_are_none_of_its_doing() {
        let recorded = counts(&[("a", 50), ("b", 50), ("c", 50)]);
        let told = compare(&recorded, &counts(&[("a", 58), ("b", 59), ("c", 41)]), 5.0, true);
        assert_eq!((told.within, told.beyond), (1, 2));
    }

    #[test]
    fn a_path_that_is_new_or_gone_is_told() {
        let told = compare(&counts(&[("gone", 1)]), &counts(&[("new", 1)]), 5.0, true);
        assert_eq!((told.within, told.beyond), (0, 2));
        assert_eq!(compare(&counts(&[("not asked", 1)]), &counts(&[]), 5.0, false), Told::default());
    }
}
