//! `distillery check`: what serving would say, without serving.

use crate::{config::Config, plugin::load::snapshot, runtime::Capacity, store::news::News};
use std::process::ExitCode;

pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    println!("configuration: right");
    let capacity = Capacity::find(config.limits.processes);
    println!("processes at once: {}", capacity.processes);
    if let Some(lowered) = &capacity.lowered {
        println!("  {lowered}");
    }
    let mut problems = 0;
    let (_, bad_news) = News::read(&config.news);
    for problem in bad_news {
        problems += 1;
        println!("news: {problem}");
    }
    // No more than one process is ever started here, so that the engine is small.
    let one = Capacity { processes: 1, lowered: None };
    let loaded = super::loader(config, &one)?.load_all(&config.plugins.directory, |_| {})?;
    let took: Vec<_> = loaded.iter().map(|loaded| (loaded.name.clone(), loaded.took)).collect();
    let snapshot = snapshot(loaded);
    for (name, took) in took {
        let state = &snapshot.plugins()[&name];
        match (&state.serving, &state.error) {
            (_, Some(error)) => {
                problems += 1;
                println!("plugin {name}: {error}");
            }
            (Some(plugin), None) => {
                let calls: Vec<_> = plugin.manifest.calls.keys().map(|call| call.as_str()).collect();
                println!(
                    "plugin {name}: {}, {} ms, calls: {}",
                    plugin.program.kind(),
                    took.as_millis(),
                    calls.join(", ")
                );
            }
            (None, None) => {}
        }
    }
    if problems > 0 {
        println!("{problems} problem{}", if problems == 1 { "" } else { "s" });
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
