//! `distillery new`: makes a plugin from a template, in the language of your choice.
//!
//! The templates are the files of `host/cli/templates`, one directory for each language. They are part of the program.

use super::output;
use anyhow::{Context as _, bail};
use clap::{Args, builder::PossibleValuesParser};
use distillery_config::Config;
use distillery_core::call::CallName;
use std::{fs, io::ErrorKind, path::Path, process::ExitCode};

/// The placeholder in a template for the name of the plugin.
const NAME: &str = "{{name}}";
/// The line of each manifest that makes its call public, commented out, because calls are private by default.
const CLOSED: &str = "#access: public";
const OPEN: &str = "access: public";

struct Template {
    language: &'static str,
    files: &'static [(&'static str, &'static str)],
}

impl Template {
    /// Returns the interpreter of a script; `None` if the plugin is built.
    fn interpreter(&self) -> Option<&'static str> {
        self.language.strip_suffix("-script")
    }
}

macro_rules! template {
    ($language:literal: $($file:literal)*) => {
        Template {
            language: $language,
            files: &[$(($file, include_str!(concat!("../templates/", $language, "/", $file)))),*],
        }
    };
}

/// Every file of every template, beginning with the common ones.
const TEMPLATES: [Template; 15] = [
    template!("assemblyscript": "README.md" "plugin.yaml" ".gitignore" "call.ts" "package.json"),
    template!("c": "README.md" "plugin.yaml" ".gitignore" "call.c"),
    template!("cpp": "README.md" "plugin.yaml" ".gitignore" "call.cpp"),
    template!("go": "README.md" "plugin.yaml" ".gitignore" "go.mod" "main.go"),
    template!("javascript": "README.md" "plugin.yaml" ".gitignore" "call.js" "stdio.js" "package.json" "wit/call.wit"),
    template!("javascript-script": "README.md" "plugin.yaml" "files/call.js"),
    template!("lua-script": "README.md" "plugin.yaml" "files/call.lua"),
    template!("micropython": "README.md" "plugin.yaml" ".gitignore" "host.wat" "interpreter.py" "package.json"),
    template!("perl-script": "README.md" "plugin.yaml" "files/call.pl"),
    template!("python": "README.md" "plugin.yaml" ".gitignore" "app.py" "wit/call.wit"),
    template!("python-script": "README.md" "plugin.yaml" "files/call.py"),
    template!("ruby-script": "README.md" "plugin.yaml" "files/call.rb"),
    template!("rust": "README.md" "plugin.yaml" ".gitignore" "Cargo.toml" "src/main.rs"),
    template!("typescript": "README.md" "plugin.yaml" ".gitignore" "call.ts" "stdio.ts" "wasi.d.ts" "tsconfig.json"
        "package.json" "wit/call.wit"),
    template!("zig": "README.md" "plugin.yaml" ".gitignore" "call.zig"),
];

#[derive(Args)]
pub struct Arguments {
    /// Makes the call public: otherwise a caller needs the scope call:NAME
    #[arg(long)]
    public: bool,
    /// The language of the template
    #[arg(value_name = "LANGUAGE", value_parser = PossibleValuesParser::new(TEMPLATES.map(|it| it.language)))]
    language: String,
    /// The name of the plugin, and of its call
    #[arg(value_name = "NAME")]
    name: CallName,
}

pub fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { public, language, name } = arguments;
    let Some(template) = TEMPLATES.iter().find(|template| template.language == language) else {
        bail!("there is no template for {language}");
    };
    // The plugin directory, if a server is configured here.
    let plugins = Some(config.plugins.directory.as_path()).filter(|plugins| plugins.is_dir());
    let directory = plugins.unwrap_or(Path::new("")).join(name.as_str());
    if let Err(error) = fs::create_dir(&directory) {
        match error.kind() {
            ErrorKind::AlreadyExists => bail!("{} exists already: choose another name", directory.display()),
            _ => bail!("{}: {error}", directory.display()),
        }
    }
    write(template, &name, public, &directory)?;
    let shown = directory.display();
    output::line(format_args!("created {shown}, a call in {language}. Its README.md lists what it needs. Next:"));
    match template.interpreter() {
        None => output::line(format_args!("  distillery build {shown}")),
        Some(name) if config.plugins.interpreters.join(name).is_dir() => {}
        Some(name) => output::line(format_args!("  distillery interpreter add DIRECTORY --name {name}")),
    }
    output::line(format_args!("  distillery run {shown} Ada"));
    if public {
        output::line(format_args!("access: public, because of `{OPEN}` in its plugin.yaml"));
    } else {
        output::line(format_args!(
            "access: only callers with the scope call:{name}; `{OPEN}` in its plugin.yaml makes it public"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn write(template: &Template, name: &CallName, public: bool, directory: &Path) -> anyhow::Result<()> {
    for (file, text) in template.files {
        let path = directory.join(file);
        let text = text.replace(NAME, name.as_str());
        let text = if public { text.replace(CLOSED, OPEN) } else { text };
        let written = path.parent().map_or(Ok(()), fs::create_dir_all);
        written.and_then(|()| fs::write(&path, text)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use distillery_core::auth::Access;
    use distillery_plugin::manifest::Manifest;
    use std::{collections::BTreeSet, path::PathBuf};

    fn files_below(directory: &Path, root: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files_below(&path, root, found);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }

    #[test]
    fn every_template_file_is_part_of_the_program() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
        let mut there = BTreeSet::new();
        files_below(&root, &root, &mut there);
        let listed = TEMPLATES.iter().flat_map(|it| it.files.iter().map(|(file, _)| Path::new(it.language).join(file)));
        assert_eq!(listed.collect::<BTreeSet<_>>(), there);
    }

    #[test]
    fn every_template_can_be_built_and_provides_its_call() {
        let name: CallName = "hello".parse().unwrap();
        for template in &TEMPLATES {
            let directory = tempfile::tempdir().unwrap();
            write(template, &name, false, directory.path()).unwrap();
            let file = directory.path().join("plugin.yaml");
            let manifest = Manifest::read(&fs::read_to_string(&file).unwrap(), &file, &name).unwrap();
            let interpreter = manifest.interpreter.as_ref().map(CallName::as_str);
            assert_eq!(interpreter, template.interpreter());
            assert!(manifest.build.is_some() != interpreter.is_some(), "{}", template.language);
            assert!(manifest.cancel.cleanup, "{}", template.language);
            assert_eq!(manifest.calls.keys().collect::<Vec<_>>(), [&name], "{}", template.language);
            let readme = fs::read_to_string(directory.path().join("README.md")).unwrap();
            assert!(readme.starts_with("# hello\n") && !readme.contains("{{"), "{readme}");
        }
    }

    #[test]
    fn new_call_is_private_by_default() {
        let name: CallName = "hello".parse().unwrap();
        for template in &TEMPLATES {
            for (public, access) in [(false, Access::Scoped), (true, Access::Public)] {
                let directory = tempfile::tempdir().unwrap();
                write(template, &name, public, directory.path()).unwrap();
                let file = directory.path().join("plugin.yaml");
                let text = fs::read_to_string(&file).unwrap();
                let manifest = Manifest::read(&text, &file, &name).unwrap();
                assert_eq!(manifest.calls[&name].access, access, "{}", template.language);
                assert_eq!(text.matches(OPEN).count(), 1, "{}: the line that opens it", template.language);
            }
        }
    }
}
