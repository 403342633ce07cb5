//! `distillery check`: runs all checks of serving, without serving.

mod holder;
mod schedules;

use super::{
    output,
    preflight::{Given, Preflight},
    setup,
};
use clap::Args;
use distillery_config::Config;
use distillery_core::{auth::Access, call::OnDisconnect, size::Size};
use distillery_plugin::{
    Plugin, Snapshot,
    error::LoadError,
    granted::{Granted, wishes},
    load::{Loader, snapshot},
    params::{CallSpec, ParamSpec},
    source::Source,
};
use distillery_runtime::{Capacity, inspect};
use distillery_store::{
    inspection::{Inspection, verify},
    news::News,
};
use holder::Running;
use std::{
    fmt::Display,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

#[derive(Args)]
pub struct Arguments {
    /// The directory of one plugin, or a single module [default: the configuration and all plugins]
    #[arg(value_name = "DIR")]
    plugin: Option<PathBuf>,
}

pub fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.plugin {
        Some(plugin) => {
            let one = Capacity::of(1);
            let (loader, _overlay) = setup::loader_to_look(config, setup::operator(config)?, &one)?;
            one_plugin(loader, &plugin)
        }
        None => all(config),
    }
}

/// Prints findings, and counts problems.
#[derive(Default)]
struct Report {
    problems: usize,
}

impl Report {
    fn problem(&mut self, what: impl Display) {
        self.problems += 1;
        output::line(what);
    }

    /// Prints the last line, and returns the exit status.
    fn verdict(&self) -> ExitCode {
        match self.problems {
            0 => return ExitCode::SUCCESS,
            1 => output::line("1 problem"),
            several => output::line(format_args!("{several} problems")),
        }
        ExitCode::FAILURE
    }
}

fn all(config: &Config) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    output::line("configuration: valid");
    let Preflight { capacity, operator, database, problems, .. } = Preflight::try_all(config, Given::default());
    output::line(format_args!("processes at once: {}", capacity.processes));
    if let Some(lowered) = &capacity.lowered {
        output::line(format_args!("  {lowered}"));
    }
    let running = Running::find(config);
    for problem in problems {
        match problem.in_use.zip(running.as_ref()) {
            // A successor takes the socket over.
            Some((address, running)) if running.listens(address) => {
                output::line(format_args!(
                    "listening: {address} is in use by the running server of this configuration"
                ));
            }
            _ => report.problem(format_args!("problem: {:#}", problem.error)),
        }
    }
    for problem in News::read(&config.news).1 {
        report.problem(format_args!("news: {problem}"));
    }
    if database.is_some() {
        database_is_whole(config, &mut report);
    }
    match setup::loader_to_look(config, operator, &capacity) {
        Ok((loader, _overlay)) => {
            if let Some(snapshot) = plugins(config, &loader, &mut report) {
                schedules::check(config, snapshot, &mut report);
            }
        }
        Err(error) => report.problem(format_args!("problem: {error:#}")),
    }
    Ok(report.verdict())
}

/// Reads the whole database. A start reads only what it needs.
fn database_is_whole(config: &Config, report: &mut Report) {
    match verify(&config.data) {
        Ok(Inspection::Readable { schema, known }) if schema < known => {
            output::line(format_args!("database: intact; the next start migrates its schema from {schema} to {known}"));
        }
        Ok(Inspection::Readable { .. }) => output::line("database: intact"),
        Ok(Inspection::Unfinished) => {
            output::line("database: not checked; the next start completes pending writes");
        }
        Ok(Inspection::Missing) => {}
        Err(error) => report.problem(format_args!("database: {error}")),
    }
}

/// Returns the plugins that would serve.
fn plugins(config: &Config, loader: &Loader, report: &mut Report) -> Option<Snapshot> {
    // An unreadable directory is already reported.
    let loaded = loader.load_all(&config.plugins.directory).ok()?;
    let took: Vec<_> = loaded.iter().map(|loaded| (loaded.name.clone(), loaded.took)).collect();
    let snapshot = snapshot(&loaded);
    for (name, took) in took {
        let state = &snapshot.plugins()[&name];
        match (&state.serving, &state.error) {
            (_, Some(error)) => report.problem(format_args!("plugin {name}: {error}")),
            (Some(plugin), None) => {
                let calls: Vec<_> = plugin.manifest.calls.keys().map(|call| call.as_str()).collect();
                let (kind, ms, calls) = (plugin.program.kind(), took.as_millis(), calls.join(", "));
                output::line(format_args!("plugin {name}: {kind}, {ms} ms, calls: {calls}"));
                if plugin.granted != Granted::default() {
                    output::line(format_args!("  may {}", plugin.granted));
                }
            }
            (None, None) => {}
        }
    }
    Some(snapshot)
}

/// Prints everything about one plugin, including all its problems.
pub fn one_plugin(mut loader: Loader, path: &Path) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    let mut source = match Source::at(path, &loader.bounds, &loader.interpreters) {
        Ok(source) => source,
        Err(error) => {
            report.problem(format_args!("problem: {error}"));
            return Ok(report.verdict());
        }
    };
    output::line(format_args!("plugin {}: {}", source.name, source.directory.display()));
    if let Some(command) = &source.manifest.command {
        output::line(format_args!("  runs: the granted command {command}"));
    } else if let Some(interpreter) = &source.interpreter {
        output::line(format_args!("  interpreter: {}, {}", interpreter.titled(), interpreter.module.display()));
    } else {
        tell_module(&source);
    }
    if let Some(files) = &source.files {
        let (count, size, at) = (files.count(), rounded(files.size.get()), &source.manifest.files.at);
        output::line(format_args!("  files: {count}, {size}, at {at}"));
    }
    let asked = wishes(&source.manifest.capabilities);
    let (plugin, took, problems) = make(&mut loader, &mut source);
    if let Some(plugin) = &plugin {
        output::line(format_args!("  kind: {}", plugin.program.kind()));
        output::line(format_args!("  compiled in: {} ms", took.as_millis()));
        let begins = plugin.program.first_memory().map_or("what it says when it runs".to_owned(), |it| it.to_string());
        output::line(format_args!("  memory: {begins} at first, at most {}", plugin.limits.memory));
        if plugin.program.is_on_demand() {
            output::line("  allocated on demand: it does not fit the pool, so its processes start more slowly");
        }
    }
    for call in source.manifest.calls.values() {
        tell(&plugin.as_ref().map_or_else(|| call.clone(), |plugin| plugin.served(call)));
    }
    for (name, value) in &source.manifest.env {
        output::line(format_args!("  env: {name}={value}"));
    }
    for what in asked {
        output::line(format_args!("  asks for: {what}"));
    }
    for problem in problems {
        report.problem(format_args!("problem: {problem}"));
    }
    Ok(report.verdict())
}

/// Makes the plugin as the server does. After a refusal, tries again without the refused part, to find further
/// problems.
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

/// Prints the module of a plugin, and what its sections say.
fn tell_module(source: &Source) {
    let file = source.module_path.strip_prefix(&source.directory).unwrap_or(&source.module_path);
    output::line(format_args!("  module: {}, {}", file.display(), rounded(source.module_bytes.len() as u64)));
    // Invalid code is a problem, which the compiler describes.
    for finding in inspect::Inspection::of(&source.module_bytes).map(|it| it.findings()).unwrap_or_default() {
        output::line(format_args!("  {finding}"));
    }
}

/// Prints a call in one line, and each of its parameters in another.
fn tell(call: &CallSpec) {
    let who = match call.access {
        Access::Public => "public".to_owned(),
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
    output::line(format_args!("  call: {}{params}: {who}{gone}", call.name));
    for param in call.params.iter().flatten() {
        output::line(format_args!("    {}: {}", param.name, rules(param)));
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

/// Rounds a size for display: to whole KiB, and from ten MiB on to whole MiB.
fn rounded(bytes: u64) -> Size {
    let kib = bytes.div_ceil(1 << 10);
    if kib < 10 << 10 { Size::kib(kib) } else { Size::mib(kib.div_ceil(1 << 10)) }
}
