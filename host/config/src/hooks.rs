//! The webhooks: which request of another service runs which call, as which user.

use super::{
    form::{self, Formed, not},
    secrets::SecretSource,
    source::{ConfigError, Node, Section},
    yaml::Value,
};
use distillery_core::{
    auth::UserName,
    call::{CALL_NAME_FORM, CallName},
    secret::Secret,
    size::Size,
};
use std::{collections::BTreeMap, path::Path, time::Duration};

/// All webhooks, by their path below `/hooks/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    pub hooks: BTreeMap<String, Hook>,
    /// The variables of the environment that they name and that are set.
    pub environment: BTreeMap<String, Secret>,
}

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub call: CallName,
    /// The user whose rights decide whether the call runs.
    pub user: UserName,
    pub format: HookFormat,
    pub secret: SecretSource,
    pub params: HookParams,
    /// The largest difference between the time of a delivery and now, for the format that has a time.
    pub window: Duration,
    /// The maximum size of a delivery.
    pub body: Size,
    /// Whether the answer is that of the call, and not only the id of its process.
    pub wait: bool,
}

/// The form in which a service proves that a delivery comes from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookFormat {
    /// A signature of the body in `X-Hub-Signature-256`.
    Github,
    /// The secret itself in `X-Gitlab-Token`.
    Gitlab,
    /// A time, and a signature of time and body, in `Stripe-Signature`.
    Stripe,
}

/// The parameters of the call, as JSON pointers into the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookParams {
    Ordered(Vec<String>),
    Named(BTreeMap<String, String>),
}

/// The default of `window`: that of the service.
const WINDOW: Duration = Duration::from_secs(300);
/// The default and the range of `body`. GitHub, the service with the largest deliveries, sends up to 25 MiB.
const BODY: Size = Size::mib(1);
const SMALLEST: Size = Size::kib(1);
const LARGEST: Size = Size::mib(25);

impl Hooks {
    /// Reads all webhooks.
    pub(super) fn read(node: Node<'_>, base: &Path) -> Result<Self, ConfigError> {
        let mut hooks = BTreeMap::new();
        node.section()?.each(|section, name, node| {
            name_form(name).map_err(|what| section.refuse_key(name, what))?;
            hooks.insert(name.to_owned(), Hook::read(node.section()?, base)?);
            Ok(())
        })?;
        Ok(Self { hooks, environment: BTreeMap::new() })
    }

    /// Keeps the variables of `environment` that a secret names.
    pub(super) fn take(&mut self, environment: &[(String, String)]) {
        let named = |name: &String| {
            self.hooks.values().any(|hook| matches!(&hook.secret, SecretSource::Env(variable) if variable == name))
        };
        let named = environment.iter().filter(|(name, _)| named(name));
        self.environment = named.map(|(name, value)| (name.clone(), Secret::new(value.clone()))).collect();
    }
}

impl Hook {
    fn read(mut section: Section<'_>, base: &Path) -> Result<Self, ConfigError> {
        let formats = form::word(&[
            ("github", HookFormat::Github),
            ("gitlab", HookFormat::Gitlab),
            ("stripe", HookFormat::Stripe),
        ]);
        let format = section.need("format", formats)?;
        let window = section.get("window", form::wait)?;
        if window.is_some() && format != HookFormat::Stripe {
            let what = "only deliveries of the format stripe have a time: remove it";
            return Err(section.refuse(&["window"], what.to_owned()));
        }
        let hook = Self {
            call: section.need("call", call)?,
            user: section.need("user", user)?,
            format,
            secret: match section.node("secret")? {
                Some(node) => SecretSource::read(node.section()?, base)?,
                None => {
                    let what = "secret is missing: a webhook without a secret would run the call for everyone";
                    return Err(section.refuse(&[], what.to_owned()));
                }
            },
            params: section.get_or("params", HookParams::Ordered(Vec::new()), params)?,
            window: window.unwrap_or(WINDOW),
            body: section.get_or("body", BODY, form::size(SMALLEST..=LARGEST))?,
            wait: section.get_or("wait", false, form::switch)?,
        };
        section.finish()?;
        Ok(hook)
    }
}

const NAME_FORM: &str =
    "letters, digits, dots, underscores and dashes, with slashes between parts, such as github/deploy";
/// The maximum length of a path below `/hooks/`.
const NAME: usize = 200;

fn name_form(name: &str) -> Formed<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let part = |part: &str| !part.is_empty() && part.chars().all(plain) && part.chars().any(|c| c != '.');
    if name.len() <= NAME && name.split('/').all(part) {
        Ok(())
    } else {
        Err(format!("{name:?} is not a path below /hooks/: write {NAME_FORM}"))
    }
}

fn call(value: &Value) -> Formed<CallName> {
    let parsed = if let Value::Text(it) = value { it.parse().ok() } else { None };
    parsed.ok_or_else(|| not(value, "the name of a call", CALL_NAME_FORM))
}

fn user(value: &Value) -> Formed<UserName> {
    match value {
        Value::Text(it) => it.parse().map_err(|error: distillery_core::auth::BadUserName| error.to_string()),
        _ => Err(not(value, "the name of a user", "the name of an existing user")),
    }
}

fn params(value: &Value) -> Formed<HookParams> {
    match value {
        Value::List(items) => items.iter().map(pointer).collect::<Formed<_>>().map(HookParams::Ordered),
        Value::Map(entries) => {
            let named = entries.iter().map(|(name, value)| Ok((name.clone(), pointer(value)?)));
            named.collect::<Formed<_>>().map(HookParams::Named)
        }
        Value::Nothing => Ok(HookParams::Ordered(Vec::new())),
        _ => Err(not(value, "parameters", "[/a, /b/c], or {name: /a, other: /b/c}")),
    }
}

/// Parses a JSON pointer (RFC 6901).
fn pointer(value: &Value) -> Formed<String> {
    let escapes = |text: &str| text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    match value {
        Value::Text(it) if it.starts_with('/') && escapes(it) => Ok(it.clone()),
        _ => Err(not(value, "a JSON pointer", "a path into the body, such as /repository/name")),
    }
}
