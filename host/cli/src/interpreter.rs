//! `distillery interpreter`: installs, lists and checks the modules that run the scripts of plugins.

use super::{output, setup};
use anyhow::{Context as _, bail};
use distillery_config::Config;
use distillery_core::{call::CallName, size::Size};
use distillery_plugin::{
    discover::plugin_directories,
    interpreters::{Interpreter, Interpreters},
    manifest::INTERPRETER_FILE,
    source,
};
use distillery_runtime::{Capacity, inspect};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, ExitCode},
    time::Instant,
};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Installs an interpreter: checks it, compiles it, and copies it into plugins.interpreters
    Add {
        /// Replaces an installed interpreter of this name; its plugins get new generations
        #[arg(long)]
        replace: bool,
        /// The name for plugins [default: that of the directory or file]
        #[arg(long, value_name = "NAME")]
        name: Option<CallName>,
        /// A directory with interpreter.yaml and a module, or a module that takes the script as its first argument
        #[arg(value_name = "DIR|FILE")]
        from: PathBuf,
    },
    /// Lists the installed interpreters and the plugins that use them
    List,
    /// Checks one interpreter or all of them, as loading a plugin would
    Check {
        #[arg(value_name = "NAME")]
        name: Option<CallName>,
    },
}

pub fn run(config: &Config, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Add { replace, name, from } => add(config, replace, name, &from),
        Command::List => list(config),
        Command::Check { name } => check(config, name),
    }
}

fn add(config: &Config, replace: bool, name: Option<CallName>, from: &Path) -> anyhow::Result<ExitCode> {
    let from = fs::canonicalize(from).with_context(|| from.display().to_string())?;
    let own = if from.is_dir() { from.file_name() } else { from.file_stem() };
    let own = || own.and_then(|name| name.to_str()?.parse().ok());
    let Some(name) = name.or_else(own) else {
        bail!("{}: not a name for an interpreter: give one with --name NAME", from.display());
    };
    let root = &config.plugins.interpreters;
    let place = root.join(name.as_str());
    if place.symlink_metadata().is_ok() && !replace {
        bail!("{} exists already: replace it with --replace, or give another name with --name NAME", place.display());
    }
    fs::create_dir_all(root).with_context(|| root.display().to_string())?;
    // No name of an interpreter begins with a dot. One that is half copied is none.
    let aside = |what: &str| root.join(format!(".{name}-{what}-{}", process::id()));
    let (new, old) = (aside("new"), aside("old"));
    let installed = copy(config, &name, &from, &new).and_then(|()| {
        let replaces = place.symlink_metadata().is_ok();
        if replaces {
            fs::rename(&place, &old)?;
        }
        let renamed = fs::rename(&new, &place);
        if renamed.is_err() && replaces {
            fs::rename(&old, &place)?;
        }
        Ok(renamed?)
    });
    for left in [&new, &old] {
        // Usually absent.
        let _ = fs::remove_dir_all(left).or_else(|_| fs::remove_file(left));
    }
    installed?;
    output::line(format_args!("installed: {}", place.display()));
    output::line(format_args!("  a plugin uses it with `interpreter: {name}` and `script: FILE` in plugin.yaml"));
    Ok(ExitCode::SUCCESS)
}

/// Copies the interpreter to `new`, and compiles it.
fn copy(config: &Config, name: &CallName, from: &Path, new: &Path) -> anyhow::Result<()> {
    let bounds = setup::bounds(config);
    if from.is_dir() {
        let Interpreter { tree, .. } = Interpreter::read(name.clone(), from, &bounds)?;
        output::line(format_args!("copying {} files, {}", tree.count(), rounded(tree.size)));
        tree.copy_to(new).with_context(|| new.display().to_string())?;
    } else {
        fs::create_dir(new).with_context(|| new.display().to_string())?;
        let file = from.file_name().context("a file has a name")?;
        let manifest =
            format!("# How the interpreter takes a script.\ndescription: {name}\narguments: [\"{{script}}\"]\n");
        let written = fs::write(new.join(INTERPRETER_FILE), manifest).and_then(|()| fs::copy(from, new.join(file)));
        let size = written.with_context(|| new.display().to_string())?;
        output::line(format_args!("copying {}, {}", from.display(), rounded(Size::bytes(size))));
    }
    // What is compiled here is in the cache of the server, if this is its user.
    let interpreter = Interpreter::read(name.clone(), new, &bounds)?;
    compile(&setup::loader_of_one(config)?, &interpreter)
}

fn compile(loader: &distillery_plugin::load::Loader, interpreter: &Interpreter) -> anyhow::Result<()> {
    output::line(format_args!("compiling {}: a large module takes seconds", rounded(interpreter.module_size)));
    let begun = Instant::now();
    let program = interpreter.program(&loader.runtime, &loader.operator.limits);
    let program = program.with_context(|| interpreter.module.display().to_string())?;
    output::line(format_args!("compiled in {} ms: {}", begun.elapsed().as_millis(), program.kind()));
    Ok(())
}

fn list(config: &Config) -> anyhow::Result<ExitCode> {
    let interpreters = setup::interpreters(config);
    let names = interpreters.names();
    if names.is_empty() {
        let root = interpreters.root().display();
        output::line(format_args!("none in {root}: install one with `distillery interpreter add DIRECTORY`"));
    }
    for name in names {
        let users = users(config, &name);
        let users = if users.is_empty() { "no plugin".to_owned() } else { users.join(", ") };
        match interpreters.get(&name, &setup::bounds(config)) {
            Ok(it) => {
                let size = rounded(it.module_size);
                output::line(format_args!("{}, {size}, used by {users}", it.titled()));
            }
            Err(error) => output::line(format_args!("{name}: {error}; used by {users}")),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the plugins whose manifests name this interpreter.
fn users(config: &Config, name: &CallName) -> Vec<String> {
    let directories = plugin_directories(&config.plugins.directory).unwrap_or_default();
    let manifests =
        directories.into_iter().filter_map(|(plugin, found)| Some((plugin, source::manifest(&found.path).ok()?.1)));
    manifests.filter(|(_, manifest)| manifest.interpreter.as_ref() == Some(name)).map(|(plugin, _)| plugin).collect()
}

fn check(config: &Config, name: Option<CallName>) -> anyhow::Result<ExitCode> {
    let (loader, _overlay) = setup::loader_to_look(config, setup::operator(config)?, &Capacity::of(1))?;
    let interpreters: &Interpreters = &loader.interpreters;
    let mut code = ExitCode::SUCCESS;
    for name in name.map_or_else(|| interpreters.names(), |name| vec![name]) {
        let checked = interpreters.get(&name, &loader.bounds).map_err(anyhow::Error::from);
        let checked = checked.and_then(|interpreter| {
            tell(&interpreter)?;
            compile(&loader, &interpreter)
        });
        if let Err(error) = checked {
            output::line(format_args!("problem: {error:#}"));
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Prints what an interpreter is, and how it takes a script.
fn tell(interpreter: &Interpreter) -> anyhow::Result<()> {
    let Interpreter { name, manifest, tree, module, .. } = interpreter;
    output::line(format_args!("interpreter {name}: {}", tree.path("").display()));
    output::line(format_args!("  module: {}, {}", module.display(), rounded(interpreter.module_size)));
    let code = fs::read(module).with_context(|| module.display().to_string())?;
    // Invalid code is a problem, which the compiler describes.
    for finding in inspect::Inspection::of(&code).map(|it| it.findings()).unwrap_or_default() {
        output::line(format_args!("  {finding}"));
    }
    output::line(format_args!("  runs: CALL {} PARAMETERS", manifest.arguments("SCRIPT").join(" ")));
    for (variable, value) in &manifest.env {
        output::line(format_args!("  env: {}={value}", variable.as_str()));
    }
    if interpreter.has_files() {
        output::line(format_args!("  files: {} at {}", manifest.files.directory.display(), manifest.files.at));
    }
    Ok(())
}

/// Rounds a size for display: to whole KiB, and from ten MiB on to whole MiB.
fn rounded(size: Size) -> Size {
    let kib = size.get().div_ceil(1 << 10);
    if kib < 10 << 10 { Size::kib(kib) } else { Size::mib(kib.div_ceil(1 << 10)) }
}
