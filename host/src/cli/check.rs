//! `distillery check`: what serving would say, without serving.

use crate::{
    auth::Access,
    call::OnDisconnect,
    config::Config,
    plugin::{
        Plugin,
        discover::LoadError,
        granted::{Granted, wishes},
        load::{Loader, snapshot},
        params::{CallSpec, ParamSpec},
        source::Source,
    },
    runtime::Capacity,
    size::Size,
    store::{
        database::{Database, FILE},
        news::News,
    },
};
use clap::Args;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

#[derive(Args)]
pub struct Arguments {
    /// The directory of one plugin, or a module alone [default: the configuration and all plugins]
    #[arg(value_name = "DIR")]
    plugin: Option<PathBuf>,
}

pub fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.plugin {
        Some(plugin) => one(config, &plugin),
        None => all(config),
    }
}

fn all(config: &Config) -> anyhow::Result<ExitCode> {
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
    if config.data.join(FILE).is_file() {
        match Database::open(&config.data).and_then(|database| database.check()) {
            Ok(()) => println!("database: whole"),
            Err(error) => {
                problems += 1;
                println!("database: {error}");
            }
        }
    }
    // No more than one process is ever started here, so that the engine is small.
    let one = Capacity::of(1);
    let loaded = super::loader(config, &one)?.load_all(&config.plugins.directory, |_| {})?;
    let took: Vec<_> = loaded.iter().map(|loaded| (loaded.name.clone(), loaded.took)).collect();
    let snapshot = snapshot(&loaded);
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
                if plugin.granted != Granted::default() {
                    println!("  may {}", plugin.granted);
                }
            }
            (None, None) => {}
        }
    }
    Ok(verdict(problems))
}

fn verdict(problems: usize) -> ExitCode {
    match problems {
        0 => return ExitCode::SUCCESS,
        1 => println!("1 problem"),
        several => println!("{several} problems"),
    }
    ExitCode::FAILURE
}

/// Everything about one plugin, and every problem that it has.
pub fn one(config: &Config, path: &Path) -> anyhow::Result<ExitCode> {
    let mut loader = super::loader_of_one(config)?;
    let mut source = match Source::at(path, loader.max_module) {
        Ok(source) => source,
        Err(error) => {
            println!("problem: {error}");
            return Ok(verdict(1));
        }
    };
    println!("plugin {}: {}", source.name, source.directory.display());
    let file = source.module_path.strip_prefix(&source.directory).unwrap_or(&source.module_path);
    println!("  module: {}, {}", file.display(), rounded(source.module_bytes.len() as u64));
    let asked = wishes(&source.manifest.capabilities);
    let (plugin, took, problems) = make(&mut loader, &mut source);
    if let Some(plugin) = &plugin {
        println!("  kind: {}", plugin.program.kind());
        println!("  compiled in: {} ms", took.as_millis());
        let begins = plugin.program.first_memory().map_or("what it says when it runs".to_owned(), |it| it.to_string());
        println!("  memory: begins with {begins}, of at most {}", plugin.limits.memory);
        if plugin.program.is_on_demand() {
            println!("  allocated on demand: it does not fit the pool, so that its processes start slower");
        }
    }
    for call in source.manifest.calls.values() {
        tell(call);
    }
    for what in asked {
        println!("  asks for: {what}");
    }
    for problem in &problems {
        println!("problem: {problem}");
    }
    Ok(verdict(problems.len()))
}

/// Makes the plugin as the server does. Where that refuses something, it is made again without it, so that the next
/// problem shows as well.
fn make(loader: &mut Loader, source: &mut Source) -> (Option<Plugin>, Duration, Vec<LoadError>) {
    let mut problems = Vec::new();
    loop {
        let begun = Instant::now();
        let error = match loader.make(source) {
            Ok(plugin) => return (Some(plugin), begun.elapsed(), problems),
            Err(error) => error,
        };
        let manifest = &mut source.manifest;
        let more = match &error {
            LoadError::Grant { .. } => {
                manifest.capabilities = Default::default();
                true
            }
            LoadError::Limit { .. } => {
                manifest.limits = Default::default();
                true
            }
            LoadError::Signature { .. } => {
                loader.operator.trusted = None;
                true
            }
            LoadError::Grace { .. } => {
                manifest.cancel.grace = None;
                true
            }
            _ => false,
        };
        problems.push(error);
        if !more {
            return (None, begun.elapsed(), problems);
        }
    }
}

/// A call in a line, and each of its parameters in one.
fn tell(call: &CallSpec) {
    let who = match call.access {
        Access::Public => "anyone may run it".to_owned(),
        Access::Scoped => format!("needs the scope call:{}", call.name),
    };
    let params = match &call.params {
        None => " [anything]...".to_owned(),
        Some(params) => params.iter().map(shape).collect(),
    };
    let gone = match call.on_disconnect {
        OnDisconnect::Cancel => "",
        OnDisconnect::Detach => ", goes on when its client is gone",
    };
    println!("  call: {}{params}: {who}{gone}", call.name);
    for param in call.params.iter().flatten() {
        println!("    {}: {}", param.name, rules(param));
    }
}

fn shape(param: &ParamSpec) -> String {
    let more = if param.rest { "..." } else { "" };
    if param.required { format!(" <{}>{more}", param.name) } else { format!(" [{}]{more}", param.name) }
}

fn rules(param: &ParamSpec) -> String {
    let mut rules = vec![if param.required { "required".to_owned() } else { "optional".to_owned() }];
    rules.extend(param.pattern.as_ref().map(|pattern| format!("matches {pattern}")));
    rules.extend((!param.choices.is_empty()).then(|| format!("one of {}", param.choices.join(", "))));
    rules.extend(param.default.as_ref().filter(|_| !param.secret).map(|default| format!("else {default:?}")));
    rules.extend(param.secret.then(|| "never shown".to_owned()));
    rules.join(", ")
}

/// A size as people read it: whole KiB, and from ten of them on whole MiB.
fn rounded(bytes: u64) -> Size {
    let kib = bytes.div_ceil(1 << 10);
    if kib < 10 << 10 { Size::kib(kib) } else { Size::mib(kib.div_ceil(1 << 10)) }
}
