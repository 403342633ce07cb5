//! Calls of a granted command without a module: `component: builtin:command` in plugin.yaml.
//!
//! A guest inside of this program runs the command, so such a call is a process like any other. The grant has the rules
//! for the parameters; the manifest can repeat, narrow or reorder them.

use super::params::{CallSpec, ParamList, ParamSpec};
use distillery_core::command::{CommandLine, CommandParam};

impl CallSpec {
    /// Checks that this call of a command can be made with its parameters.
    pub(super) fn check_command(&self, line: &CommandLine) -> Result<(), String> {
        let call = &self.name;
        let Some(params) = &self.params else {
            let rules = line.params().iter().map(|param| param.rule.clone()).collect::<Vec<_>>();
            return match ParamList::try_from(rules) {
                Ok(_) => Ok(()),
                Err(why) => Err(format!("the call {call} takes the parameters of its command, but {why}: list params")),
            };
        };
        let rule = |name: &str| line.params().iter().find(|param| param.rule.name == name);
        if let Some(unknown) = params.iter().find(|param| rule(&param.name).is_none()) {
            return Err(format!(
                "the call {call} has the parameter {:?}, and its command has not: remove it",
                unknown.name
            ));
        }
        if let Some(rest) = params.iter().find(|param| param.rest) {
            return Err(format!(
                "{:?} of the call {call} takes the rest, but a command takes one value: remove rest",
                rest.name
            ));
        }
        let missing = |CommandParam { rule, .. }: &&CommandParam| {
            rule.required
                && !params.iter().any(|param| param.name == rule.name && (param.required || param.default.is_some()))
        };
        match line.params().iter().find(missing) {
            Some(CommandParam { rule, .. }) => {
                Err(format!("the command of the call {call} requires the parameter {:?}: require it too", rule.name))
            }
            None => Ok(()),
        }
    }

    /// Returns this call with the rules of its command.
    pub(super) fn of_command(&self, line: &CommandLine) -> Self {
        let rule = |name: &str| line.params().iter().map(|param| &param.rule).find(|rule| rule.name == name);
        let params = match &self.params {
            None => line.params().iter().map(|param| param.rule.clone()).collect(),
            Some(params) => {
                let both = |param: &ParamSpec| {
                    let secret = param.secret || rule(&param.name).is_some_and(|rule| rule.secret);
                    ParamSpec { secret, ..param.clone() }
                };
                params.iter().map(both).collect()
            }
        };
        Self { params: Some(params), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use distillery_core::param::WrittenParam;
    use std::path::Path;

    fn line() -> CommandLine {
        let param = |name: &str, pattern: &str, secret, required| {
            let (name, pattern) = (name.to_owned(), Some(pattern.to_owned()));
            let written = WrittenParam { name, pattern, secret, required: Some(required), ..WrittenParam::default() };
            CommandParam { rule: written.try_into().unwrap(), leading_dash: false }
        };
        let params = vec![param("slug", "[a-z]+", false, true), param("key", ".*", true, false)];
        CommandLine::new(&["x", "{slug}", "{key}"].map(str::to_owned), params).unwrap()
    }

    fn spec(params: &str) -> CallSpec {
        let text = format!("component: builtin:command\ncommand: x\ncalls: {{go: {{{params}}}}}");
        Manifest::read(&text, Path::new("plugin.yaml"), &"go".parse().unwrap()).unwrap().calls["go"].clone()
    }

    #[test]
    fn call_without_params_has_those_of_its_command() {
        assert_eq!(spec("").check_command(&line()), Ok(()));
        let params = spec("").of_command(&line()).params.unwrap();
        assert_eq!(params.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["slug", "key"]);
        assert!(params[0].pattern.is_some() && params[1].secret && !params[1].required);
    }

    #[test]
    fn params_of_a_call_must_fit_its_command() {
        for (params, told) in [
            ("params: [{name: slug}, {name: other}]", "its command has not"),
            ("params: [{name: key}]", "requires the parameter \"slug\""),
            ("params: [{name: slug, required: false}]", "requires the parameter \"slug\""),
            ("params: [{name: slug, rest: true}]", "takes the rest"),
        ] {
            let refused = spec(params).check_command(&line()).unwrap_err();
            assert!(refused.contains(told), "{refused}");
        }
        let fits = spec("params: [{name: slug, choices: [a, b], default: a}]");
        assert_eq!(fits.check_command(&line()), Ok(()));
        let narrowed = fits.of_command(&line()).params.unwrap();
        assert_eq!((narrowed.len(), narrowed[0].choices.len(), narrowed[0].secret), (1, 2, false));
        let kept = spec("params: [{name: slug}, {name: key, required: false}]").of_command(&line()).params.unwrap();
        assert!(kept[1].secret);
    }
}
