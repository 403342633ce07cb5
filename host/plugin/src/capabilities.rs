//! The resources beyond its own memory that a plugin can request, in checked form.
//!
//! A request grants nothing.

use distillery_core::{call::CallName, origin::Origin, size::Size};
use distillery_runtime::SCRATCH_AT;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::{collections::HashSet, fmt};

/// The resources that a plugin requests and the operator grants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Capabilities {
    /// Directories of the server, by the operator's names.
    pub mounts: Vec<Mount>,
    /// The origins to which HTTP requests are allowed.
    pub http: Vec<HttpOrigin>,
    /// Environment variables of the server.
    pub env: Vec<EnvName>,
    /// Secrets of the operator, as environment variables.
    pub secrets: Vec<EnvName>,
    /// The public list of systems.
    pub systems: Option<SystemsAccess>,
    /// A private `/tmp` that is removed with the process.
    pub scratch: Option<Scratch>,
    /// Programs of the server's machine, by the operator's names.
    pub commands: Vec<CommandName>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    mounts: Vec<Mount>,
    http: Vec<HttpOrigin>,
    env: Vec<EnvName>,
    secrets: Vec<EnvName>,
    systems: Option<SystemsAccess>,
    scratch: Option<Scratch>,
    commands: Vec<CommandName>,
}

impl TryFrom<Written> for Capabilities {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { mounts, http, env, secrets, systems, scratch, commands } = written;
        let scratch_at = scratch.map(|_| SCRATCH_AT);
        if let Some(place) = first_twice(mounts.iter().map(|mount| mount.at.as_str()).chain(scratch_at)) {
            return Err(format!("two things are at {place}: move a mount"));
        }
        if let Some(name) = first_twice(env.iter().chain(&secrets).map(EnvName::as_str)) {
            return Err(format!("the variable {name} is asked for twice: remove it from env or secrets"));
        }
        if let Some(name) = first_twice(commands.iter().map(CommandName::as_str)) {
            return Err(format!("the command {name} is asked for twice: remove one"));
        }
        Ok(Self { mounts, http, env, secrets, systems, scratch, commands })
    }
}

/// Returns the first text that occurs twice.
pub(super) fn first_twice<'a>(mut texts: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    texts.find(|text| !seen.insert(*text))
}

impl Capabilities {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SystemsAccess {
    Read,
    Write,
}

/// The size of a private `/tmp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scratch(pub Size);

impl<'de> Deserialize<'de> for Scratch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Size::deserialize(deserializer)? {
            size if size == Size::default() => Err(D::Error::custom("0 holds nothing: write more, or leave it out")),
            size => Ok(Self(size)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    #[schemars(with = "String")]
    pub name: MountName,
    /// The path inside the sandbox.
    #[schemars(with = "String")]
    pub at: GuestPath,
    #[serde(default)]
    pub write: bool,
}

/// Defines a text type whose values always have a certain form.
macro_rules! text_of_form {
    ($(#[$about:meta])* $name:ident, $holds:expr, $form:literal) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let holds: fn(&str) -> bool = $holds;
                if holds(&text) { Ok(Self(text)) } else { Err(format!(concat!("{:?} is not ", $form), text)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_of_form!(
    /// The operator's name for a directory.
    MountName,
    |text| text.parse::<CallName>().is_ok(),
    "the name of a mount: use letters, digits, dots, underscores or dashes"
);

text_of_form!(
    /// The operator's name for a command.
    CommandName,
    |text| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        !text.is_empty() && text.len() <= 64 && text.chars().all(plain)
    },
    "the name of a command: use letters, digits, dots, underscores or dashes"
);

text_of_form!(
    /// An absolute, normalized path inside the sandbox.
    GuestPath,
    |text| {
        let parts = text.strip_prefix('/').into_iter().flat_map(|rest| rest.split('/'));
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        text == "/" || (text.len() > 1 && text.starts_with('/') && parts.into_iter().all(plain))
    },
    "a place for a mount: write an absolute path without .. and without a slash at its end, such as /instances"
);

text_of_form!(
    /// The name of an environment variable.
    EnvName,
    |text| {
        let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        // Reserved for the server's own settings and the variables that it sets for each guest.
        begins && plain && !text.starts_with("DISTILLERY_")
    },
    "the name of a variable: use letters, digits and underscores, and not DISTILLERY_ at its beginning"
);

text_of_form!(
    /// A scheme, a host and an optional port: an allowed destination of requests.
    HttpOrigin,
    |text| text.parse::<Origin>().is_ok(),
    "an origin: write scheme, host and perhaps port, such as https://api.example.org"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_a_scheme_a_host_and_an_optional_port() {
        let origin = |text: &str| HttpOrigin::try_from(text.to_owned());
        for text in ["https://a.example", "http://localhost:8080", "http://[::1]:80"] {
            assert!(origin(text).is_ok(), "{text}");
        }
        for text in [
            "a.example",
            "ftp://a",
            "https://",
            "https://a/",
            "https://a/x",
            "https://a?x",
            "https://u@a",
            "http://*.a",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
