//! Granted commands, in checked form: programs of this machine that a plugin can run, with fixed arguments.
//!
//! Whether a program or a directory exists is checked elsewhere.

use super::{
    form::{self, Formed},
    secrets::SecretSource,
    source::{ConfigError, Node, Section, named},
    yaml::Value,
};
use distillery_core::{
    command::{CommandLine, CommandParam, is_param_name},
    param::WrittenParam,
    size::Size,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// Time that a command can run, unless its grant has another.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes that a command can write, unless its grant has another number.
const OUTPUT: Size = Size::mib(16);
/// Number of runs at once, unless the grant has another.
const CONCURRENT: u32 = 4;

/// The operator's grant of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandGrant {
    pub line: CommandLine,
    /// The working directory. The default is `/`.
    pub directory: PathBuf,
    /// The whole environment of the command.
    pub env: BTreeMap<String, CommandValue>,
    pub timeout: Duration,
    /// Bytes of stdout and stderr together.
    pub output: Size,
    /// Number of runs at once.
    pub concurrent: u32,
    /// The kernel's limits for each process of the command.
    pub limits: CommandLimits,
    /// The files that the command can use. `None` means all that the server's user can.
    pub paths: Option<CommandPaths>,
}

/// The value of a variable of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandValue {
    Text(String),
    Secret(SecretSource),
}

/// The kernel's limits for each process of a command. `None` means the limit of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandLimits {
    /// The memory that it can write to.
    pub memory: Option<Size>,
    pub cpu: Option<Duration>,
    /// Open files.
    pub files: Option<u64>,
}

/// The only files and directories that a command can use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandPaths {
    /// To read and to run.
    pub read: Vec<PathBuf>,
    /// To read, run and write.
    pub write: Vec<PathBuf>,
}

impl CommandGrant {
    pub(super) fn read(mut section: Section<'_>, base: &Path) -> Result<Self, ConfigError> {
        let run = section.list_of("run", form::text)?;
        let params = match section.node("params")? {
            Some(node) => named(node.section()?, param_name, Ok)?,
            None => BTreeMap::new(),
        };
        let params = params.into_iter().map(|(name, node)| param(name, node)).collect::<Result<_, _>>()?;
        let line = CommandLine::new(&run, params).map_err(|why| section.refuse(&["run"], why))?;
        let grant = Self {
            line,
            directory: base.join(section.get_or("directory", PathBuf::from("/"), form::path)?),
            env: match section.node("env")? {
                Some(node) => named(node.section()?, form::variable_name, |node| CommandValue::read(node, base))?,
                None => BTreeMap::new(),
            },
            timeout: section.get_or("timeout", TIMEOUT, form::wait)?,
            output: section.get_or("output", OUTPUT, form::size(Size::bytes(1)..=Size::mib(1 << 20)))?,
            concurrent: section.get_or("concurrent", CONCURRENT, form::count(1..=1000))?,
            limits: CommandLimits {
                memory: section.get("memory", form::size(Size::mib(16)..=Size::mib(1 << 20)))?,
                cpu: section.get("cpu", whole_seconds)?,
                files: section.get("files", form::count(16..=1 << 20))?,
            },
            paths: match section.node("paths")? {
                Some(node) => Some(CommandPaths::read(node.section()?, base)?),
                None => None,
            },
        };
        section.finish()?;
        Ok(grant)
    }

    /// Returns whether it takes the variable of this name from the server's environment.
    pub(super) fn names(&self, variable: &str) -> bool {
        self.env
            .values()
            .any(|value| matches!(value, CommandValue::Secret(SecretSource::Env(name)) if name == variable))
    }
}

impl CommandValue {
    fn read(node: Node<'_>, base: &Path) -> Result<Self, ConfigError> {
        if node.read(|value| Ok(matches!(value, Value::Map(_))))? {
            return SecretSource::read(node.section()?, base).map(Self::Secret);
        }
        node.read(|value| match form::text(value)? {
            text if text.contains('\0') => Err("a NUL character, which no variable can contain".to_owned()),
            text => Ok(Self::Text(text)),
        })
    }
}

impl CommandPaths {
    fn read(mut section: Section<'_>, base: &Path) -> Result<Self, ConfigError> {
        let paths = |list: Vec<PathBuf>| list.into_iter().map(|path| base.join(path)).collect();
        let paths = Self {
            read: paths(section.list_of("read", form::path)?),
            write: paths(section.list_of("write", form::path)?),
        };
        section.finish()?;
        Ok(paths)
    }
}

fn param(name: String, node: Node<'_>) -> Result<CommandParam, ConfigError> {
    let mut section = node.section()?;
    let choices: Vec<String> = section.list_of("choices", form::text)?;
    let written = WrittenParam {
        name,
        description: section.get_or("description", String::new(), form::text)?,
        pattern: section.get("pattern", form::text)?,
        choices: (!choices.is_empty()).then_some(choices),
        default: section.get("default", form::text)?,
        required: section.get("required", form::switch)?,
        secret: section.get_or("secret", false, form::switch)?,
        rest: false,
    };
    let leading_dash = section.get_or("leading_dash", false, form::switch)?;
    let rule = written.try_into().map_err(|why| section.refuse(&[], why))?;
    section.finish()?;
    Ok(CommandParam { rule, leading_dash })
}

fn param_name(name: &str) -> Formed<()> {
    if is_param_name(name) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is not a name for a parameter: write 1 to 64 letters, digits, underscores or dashes, beginning with a \
         letter"
    ))
}

/// Checks that a grant can have this name for a command.
pub(super) fn command_name(name: &str) -> Formed<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) {
        Ok(())
    } else {
        Err(format!("{name:?} is not a name for a command: write 1 to 64 letters, digits, dots, underscores or dashes"))
    }
}

/// Parses a duration that the kernel counts in seconds.
fn whole_seconds(value: &Value) -> Formed<Duration> {
    match form::wait(value)? {
        time if time.subsec_nanos() == 0 => Ok(time),
        _ => Err(form::not(value, "a number of whole seconds", "it with the unit s, such as 30s")),
    }
}
