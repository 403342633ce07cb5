//! Parameters of granted commands, as an attacker would choose them.

use crate::{hunt::hunt, target};
use distillery_core::{
    command::{CommandLine, CommandParam},
    param::WrittenParam,
};
use proptest::{collection::vec, prelude::*, sample::select};

/// Values that mean something to shells, to programs and to paths.
fn value() -> impl Strategy<Value = String> {
    let parts = select(
        &[
            "-",
            "--",
            "-rf",
            "--output=/etc/passwd",
            "-o",
            "ProxyCommand=id",
            "@",
            "=",
            "/",
            "..",
            "../",
            "/etc/passwd",
            "~",
            "$(id)",
            "`id`",
            "${IFS}",
            ";",
            "&&",
            "|",
            ">",
            "<",
            "'",
            "\"",
            "\\",
            "\n",
            "\r",
            "\t",
            " ",
            "*",
            "?",
            "{slug}",
            "{free}",
            "{",
            "}",
            "{{",
            "%s",
            "%00",
            "\0",
            "\u{2010}",
            "\u{2212}",
            "\u{feff}",
            "ä",
            "a",
            "coins",
            "up",
            "down",
            "x-y",
            "",
        ][..],
    );
    prop_oneof![
        6 => vec(parts, 0..4).prop_map(|parts| parts.concat()),
        2 => any::<String>(),
        1 => "[a-z][a-z0-9-]{0,30}",
        1 => "-{0,2}[a-z]{1,4}",
    ]
}

fn line() -> CommandLine {
    let param = |name: &str, pattern: Option<&str>, choices: Option<&[&str]>, leading_dash| {
        let choices = choices.map(|it| it.iter().map(|&it| it.to_owned()).collect());
        let written =
            WrittenParam { name: name.into(), pattern: pattern.map(Into::into), choices, ..WrittenParam::default() };
        CommandParam { rule: written.try_into().unwrap(), leading_dash }
    };
    let params = vec![
        param("slug", Some("[a-z][a-z0-9-]{0,30}"), None, false),
        param("loose", Some("(?s).*"), None, false),
        param("verb", None, Some(&["up", "down", "-v"]), false),
        param("free", None, None, false),
        param("dashed", None, None, true),
    ];
    let run =
        ["docker", "compose", "--dir", "/srv/{slug}/data", "{loose}", "{verb}", "{free}", "--", "{dashed}", "end"];
    CommandLine::new(&run.map(str::to_owned), params).unwrap()
}

#[test]
fn value_never_becomes_another_argument_or_an_option() {
    let line = line();
    let values = [(); 5].map(|()| value());
    hunt(target!("command_arguments", 10_000), values, |values| {
        let names = ["slug", "loose", "verb", "free", "dashed"];
        let given: Vec<_> = names.into_iter().zip(&values).collect();
        // Each value alone among harmless ones, so that one refusal does not hide another; then all together.
        let harmless = ["coins", "x", "up", "x", "x"];
        for alone in 0..names.len() {
            let mut one: Vec<_> = names.into_iter().zip(harmless).collect();
            one[alone].1 = values[alone].as_str();
            check(&line, &one);
        }
        check(&line, &given.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>());
    });
}

fn check(line: &CommandLine, given: &[(&str, &str)]) {
    let [slug, loose, verb, free, dashed] = [0, 1, 2, 3, 4].map(|at| given[at].1);
    let option = |value: &str| value.starts_with('-');
    let harmless = |value: &str| !option(value) && !value.contains('\0');
    match line.fill(given) {
        Ok(filled) => {
            let place = format!("/srv/{slug}/data");
            assert_eq!(filled, ["compose", "--dir", &place, loose, verb, free, "--", dashed, "end"]);
            assert!(slug.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{slug:?}");
            assert!(["up", "down", "-v"].contains(&verb), "{verb:?}");
            assert!([slug, loose, free].into_iter().all(harmless) && !dashed.contains('\0'), "{filled:?}");
            assert!(!free.is_empty() && !slug.is_empty());
        }
        Err(refused) => {
            let words = refused.to_string();
            let rules_hold = !slug.is_empty()
                && slug.starts_with(|c: char| c.is_ascii_lowercase())
                && slug.len() <= 31
                && slug.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
                && harmless(loose)
                && ["up", "down", "-v"].contains(&verb)
                && harmless(free)
                && !free.is_empty()
                && !dashed.is_empty()
                && !dashed.contains('\0');
            assert!(!rules_hold, "{given:?}: {words}");
        }
    }
}
