//! `distillery auth can-i`: shows whether a user is allowed an action, and which rule decides.

use super::output;
use anyhow::Context;
use distillery_config::Config;
use distillery_core::{
    auth::{self, Access, Caller, Permission, Scope},
    call::CallName,
};
use distillery_plugin::{discover::plugin_directories, source};
use distillery_store::{accounts::Accounts, database::Database};
use std::process::ExitCode;

/// The name for an anonymous caller on the command line.
const NOBODY: &str = "nobody";

#[derive(clap::Subcommand)]
pub enum Auth {
    /// Shows whether a user is allowed an action, such as call:echo, and which rule decides; fails if not
    CanI(Question),
}

#[derive(clap::Args)]
pub struct Question {
    /// A user, or `nobody` for an anonymous caller
    user: String,
    /// The action, as a scope
    scope: Scope,
}

pub fn run(config: &Config, Question { user, scope }: &Question) -> anyhow::Result<ExitCode> {
    let user = user.as_str();
    let held = match user {
        NOBODY => Vec::new(),
        user => Accounts::open(&Database::open(&config.data)?)?
            .user(user)?
            .map(|(_, scopes)| scopes)
            .with_context(|| format!("there is no user {user:?}: `distillery user list` shows all"))?,
    };
    let with = |scopes: &[Scope]| Caller { user: user.to_owned(), scopes: scopes.to_vec(), ..Caller::nobody() };
    let call = scope.0.strip_prefix("call:").and_then(|name| name.parse::<CallName>().ok());
    let access = match &call {
        Some(call) => access(config, call),
        None => Access::Scoped,
    };
    let wish = match &call {
        Some(call) => Permission::Run(call, access),
        None => Permission::Use(&scope.0),
    };
    let (own, everybody) = (with(&held), with(&config.auth.anonymous));
    let (own, everybody) = (auth::rule(&own, wish), auth::rule(&everybody, wish));
    let allowed = own.allows() || everybody.allows();
    match (own.allows(), everybody.allows()) {
        (true, _) => output::line(format_args!("yes: {own}")),
        (false, true) => output::line(format_args!("yes: {everybody}, granted to everyone by auth.anonymous")),
        (false, false) => output::line(format_args!("no: {own}")),
    }
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the access rule of a call from the manifests, without loading modules. A plugin with an unreadable manifest
/// has no calls.
fn access(config: &Config, call: &CallName) -> Access {
    let directories = plugin_directories(&config.plugins.directory).unwrap_or_default();
    let manifests = directories.values().filter_map(|found| source::manifest(&found.path).ok());
    // The first plugin by name owns a call that two plugins declare.
    let spec = manifests.into_iter().find_map(|(_, manifest)| manifest.calls.get(call).map(|spec| spec.access));
    spec.unwrap_or_default()
}
