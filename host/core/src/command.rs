//! The argument list of a granted command: fixed text with places for parameters, and the rules for their values.
//!
//! There is no shell: a value is part of exactly one argument, whatever it contains. This module starts nothing.

use crate::{
    param::{BadParam, ParamSpec},
    size::Size,
};
use std::collections::BTreeMap;

/// The maximum size of all arguments together. The kernel allows no argument above 128 KiB, and about 2 MiB in all.
const ARGUMENTS: Size = Size::kib(512);
/// The maximum size of one value.
const VALUE: Size = Size::kib(64);

/// A parameter of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandParam {
    pub rule: ParamSpec,
    /// Whether a value can begin with `-`, which programs read as an option.
    pub leading_dash: bool,
}

/// A program with its arguments. Always consistent, because it is checked when made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    program: String,
    arguments: Vec<Vec<Part>>,
    /// The parameters, in the order of their first use.
    params: Vec<CommandParam>,
}

/// A part of an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The index of a parameter.
    Param(usize),
}

/// The reason why a command does not take these parameters. It never repeats a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadArgument {
    #[error(transparent)]
    Param(#[from] BadParam),
    #[error("parameter {param:?} begins with a dash: a program would read it as an option")]
    Dash { param: String },
    #[error("parameter {param:?} is empty")]
    Empty { param: String },
    #[error("parameter {param:?} is larger than {VALUE}")]
    TooLarge { param: String },
    #[error("there is no parameter {param:?}")]
    Unknown { param: String },
    #[error("parameter {param:?} is there twice")]
    Twice { param: String },
    #[error("all arguments together are larger than {ARGUMENTS}")]
    AllTooLarge,
}

impl CommandLine {
    /// Makes a command line of `run`, a program and its arguments. `{name}` stands for the parameter of that name. All
    /// other text, with or without braces, stays as it is.
    pub fn new(run: &[String], params: Vec<CommandParam>) -> Result<Self, String> {
        let Some((program, arguments)) = run.split_first().filter(|(program, _)| !program.is_empty()) else {
            return Err("no program: write its name or its path first".to_owned());
        };
        if run.iter().any(|argument| argument.contains('\0')) {
            return Err("a NUL character, which no argument can contain".to_owned());
        }
        if places(program).next().is_some() {
            return Err("a parameter in the name of the program: only arguments can have parameters".to_owned());
        }
        let mut line = Self { program: program.clone(), arguments: Vec::new(), params: Vec::new() };
        for argument in arguments {
            let parts = line.parts(argument, &params)?;
            line.arguments.push(parts);
        }
        match params.iter().find(|param| !line.params.contains(param)) {
            Some(unused) => {
                let name = &unused.rule.name;
                Err(format!("no argument has {{{name}}}: use the parameter {name:?}, or remove it"))
            }
            None => Ok(line),
        }
    }

    fn parts(&mut self, argument: &str, params: &[CommandParam]) -> Result<Vec<Part>, String> {
        let (mut parts, mut from) = (Vec::new(), 0);
        for (at, name) in places(argument) {
            let Some(param) = params.iter().find(|param| param.rule.name == name) else {
                return Err(format!("{{{name}}} is no parameter: add {name:?} to params"));
            };
            let whole = name.len() + 2 == argument.len();
            if !whole && param.rule.pattern.is_none() && param.rule.choices.is_empty() {
                return Err(format!(
                    "{{{name}}} is a part of the argument {argument:?}, where any value is too much: give the parameter \
                     a pattern or choices"
                ));
            }
            if at > from {
                parts.push(Part::Text(argument[from..at].to_owned()));
            }
            let known = self.params.iter().position(|known| known == param);
            parts.push(Part::Param(known.unwrap_or(self.params.len())));
            if known.is_none() {
                self.params.push(param.clone());
            }
            from = at + name.len() + 2;
        }
        if from < argument.len() || parts.is_empty() {
            parts.push(Part::Text(argument[from..].to_owned()));
        }
        Ok(parts)
    }

    pub fn program(&self) -> &str {
        &self.program
    }

    /// Returns the parameters, in the order of their first use.
    pub fn params(&self) -> &[CommandParam] {
        &self.params
    }

    /// Returns the arguments with these parameters, which are pairs of a name and a value. An argument with an optional
    /// parameter that is absent is left out.
    pub fn fill<N: AsRef<str>, V: AsRef<str>>(&self, given: &[(N, V)]) -> Result<Vec<String>, BadArgument> {
        let mut values = BTreeMap::new();
        for (name, value) in given.iter().map(|(name, value)| (name.as_ref(), value.as_ref())) {
            let Some(index) = self.params.iter().position(|param| param.rule.name == name) else {
                return Err(BadArgument::Unknown { param: name.to_owned() });
            };
            self.params[index].check(value)?;
            if values.insert(index, value).is_some() {
                return Err(BadArgument::Twice { param: name.to_owned() });
            }
        }
        for (index, CommandParam { rule, .. }) in self.params.iter().enumerate() {
            match &rule.default {
                Some(default) => _ = values.entry(index).or_insert(default),
                None if rule.required && !values.contains_key(&index) => {
                    return Err(BadParam::Missing { param: rule.name.clone() }.into());
                }
                None => {}
            }
        }
        let filled: Vec<String> = self.arguments.iter().filter_map(|parts| fill(parts, &values)).collect();
        let size = filled.iter().map(|argument| argument.len() + 1).sum::<usize>();
        if size > ARGUMENTS.as_usize() { Err(BadArgument::AllTooLarge) } else { Ok(filled) }
    }

    /// Names `values` by their position, in the order of the parameters.
    pub fn named(&self, values: Vec<String>) -> Result<Vec<(String, String)>, BadArgument> {
        let names = self.params.iter().map(|param| param.rule.name.clone());
        let takes = names.len();
        if values.len() > takes {
            return Err(BadParam::Surplus { call: self.program.clone(), takes }.into());
        }
        Ok(names.zip(values).collect())
    }
}

fn fill(parts: &[Part], values: &BTreeMap<usize, &str>) -> Option<String> {
    parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Param(index) => values.get(index).copied(),
        })
        .collect()
}

impl CommandParam {
    fn check(&self, value: &str) -> Result<(), BadArgument> {
        let Self { rule, leading_dash } = self;
        let param = || rule.name.clone();
        if value.len() > VALUE.as_usize() {
            return Err(BadArgument::TooLarge { param: param() });
        }
        rule.check(value)?;
        // A listed choice was written by the operator. A pattern can match more than its author thinks of.
        let listed = !rule.choices.is_empty();
        if value.starts_with('-') && !leading_dash && !listed {
            return Err(BadArgument::Dash { param: param() });
        }
        if value.is_empty() && rule.pattern.is_none() && !listed {
            return Err(BadArgument::Empty { param: param() });
        }
        Ok(())
    }
}

/// Returns whether `name` can be the name of a parameter of a command.
pub fn is_param_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.len() <= 64 && name.chars().all(plain)
}

/// Returns each `{name}` of `text`: its position and the name.
fn places(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices('{').filter_map(|(at, _)| {
        let (name, _) = text[at + 1..].split_once('}')?;
        is_param_name(name).then_some((at, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::param::WrittenParam;

    fn param(name: &str, pattern: Option<&str>, choices: Option<&[&str]>) -> CommandParam {
        let choices = choices.map(|it| it.iter().map(|&it| it.to_owned()).collect());
        let written =
            WrittenParam { name: name.into(), pattern: pattern.map(str::to_owned), choices, ..WrittenParam::default() };
        CommandParam { rule: written.try_into().unwrap(), leading_dash: false }
    }

    fn line(run: &[&str], params: Vec<CommandParam>) -> Result<CommandLine, String> {
        CommandLine::new(&run.iter().map(|&it| it.to_owned()).collect::<Vec<_>>(), params)
    }

    fn compose() -> CommandLine {
        let params = vec![param("verb", None, Some(&["up", "down", "-v"])), param("slug", Some("[a-z-]*"), None)];
        line(&["docker", "compose", "--dir", "/srv/{slug}", "{verb}", "{{.ID}} {", "}", ""], params).unwrap()
    }

    #[test]
    fn values_fill_their_places_only() {
        let filled = compose().fill(&[("verb", "up"), ("slug", "coins")]).unwrap();
        assert_eq!(filled, ["compose", "--dir", "/srv/coins", "up", "{{.ID}} {", "}", ""]);
        assert_eq!(compose().program(), "docker");
        let names: Vec<_> = compose().params().iter().map(|param| param.rule.name.clone()).collect();
        assert_eq!(names, ["slug", "verb"]);
        // A value is never read again for places.
        let free =
            line(&["say", "{text}", "{other}"], vec![param("text", None, None), param("other", None, None)]).unwrap();
        assert_eq!(free.fill(&[("text", "{other}"), ("other", "$(id) '\n")]).unwrap(), ["{other}", "$(id) '\n"]);
    }

    #[test]
    fn bad_value_is_refused_and_never_repeated() {
        let refused = |given: &[(&str, &str)]| compose().fill(given).unwrap_err().to_string();
        for (given, why) in [
            (&[("slug", "x")][..], r#"parameter "verb" is missing"#),
            (&[("slug", "SWORD"), ("verb", "up")], r#"parameter "slug" does not match [a-z-]*"#),
            (&[("slug", "-sword"), ("verb", "up")], r#"parameter "slug" begins with a dash"#),
            (&[("slug", "x"), ("verb", "sword")], r#"parameter "verb" must be one of up, down, -v"#),
            (&[("slug", "x"), ("verb", "up"), ("slug", "y")], r#"parameter "slug" is there twice"#),
            (&[("slag", "sword")], r#"there is no parameter "slag""#),
        ] {
            let refused = refused(given);
            assert!(refused.starts_with(why) && !refused.to_lowercase().contains("sword"), "{refused}");
        }
        // The operator has listed this one.
        assert!(compose().fill(&[("slug", "x"), ("verb", "-v")]).is_ok());
    }

    #[test]
    fn empty_and_oversized_values_are_refused() {
        let free = line(&["say", "{text}"], vec![param("text", None, None)]).unwrap();
        assert_eq!(free.fill(&[("text", "")]).unwrap_err().to_string(), r#"parameter "text" is empty"#);
        let large = "x".repeat(VALUE.as_usize() + 1);
        assert_eq!(free.fill(&[("text", &large)]).unwrap_err().to_string(), r#"parameter "text" is larger than 64KiB"#);
        let nul = free.fill(&[("text", "a\0b")]).unwrap_err();
        assert!(matches!(nul, BadArgument::Param(BadParam::Nul { .. })));
        let twenty = vec!["{text}"; 20];
        let many = line(&[&["say"], &twenty[..]].concat(), vec![param("text", None, None)]).unwrap();
        assert_eq!(many.fill(&[("text", &large[1..])]).unwrap_err(), BadArgument::AllTooLarge);
    }

    #[test]
    fn argument_of_an_absent_parameter_is_left_out() {
        let mut tag = param("tag", Some("[a-z]+"), None);
        tag.rule.required = false;
        let line = line(&["git", "tag", "--message={tag}", "end"], vec![tag]).unwrap();
        assert_eq!(line.fill::<&str, &str>(&[]).unwrap(), ["tag", "end"]);
        assert_eq!(line.named(vec!["a".into()]).unwrap(), [("tag".to_owned(), "a".to_owned())]);
        assert!(line.named(vec!["a".into(), "b".into()]).is_err());
    }

    #[test]
    fn inconsistent_command_line_is_refused() {
        let any = || vec![param("a", None, None)];
        for (run, params, why) in [
            (&[][..], vec![], "no program"),
            (&[""], vec![], "no program"),
            (&["{a}"], any(), "a parameter in the name of the program"),
            (&["x", "\0"], vec![], "a NUL character"),
            (&["x", "{b}"], any(), "{b} is no parameter"),
            (&["x"], any(), "no argument has {a}"),
            (&["x", "/srv/{a}"], any(), "{a} is a part of the argument \"/srv/{a}\""),
        ] {
            let refused = line(run, params).unwrap_err();
            assert!(refused.starts_with(why), "{refused}");
        }
    }
}
