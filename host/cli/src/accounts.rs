//! `distillery user`, `distillery token` and `distillery backup`: use the database directly, with or without a server.

use super::output;
use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use distillery_config::Config;
use distillery_core::auth::{Scope, UserName};
use distillery_store::{
    accounts::{self, Accounts, NewToken, TokenUser},
    database::{Database, FILE},
};
use std::{
    io::{self, IsTerminal},
    path::Path,
    process::ExitCode,
    time::Duration,
};
use time::OffsetDateTime;

#[derive(Subcommand)]
pub enum User {
    /// Adds a user. Asks for the password on a terminal, or reads it from the first line of stdin
    Add {
        name: UserName,
        /// A scope of the user, such as call:echo, call:*, processes:* or * for all; can be repeated
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<Scope>,
        /// Adds a user without a password, who can only use tokens
        #[arg(long)]
        no_password: bool,
    },
    /// Lists all users and their scopes
    List,
    /// Removes a user with their tokens and sessions
    Remove { name: String },
    /// Sets the password of a user and ends their sessions
    Passwd { name: String },
    /// Sets the scopes of a user, replacing the previous ones
    Scopes { name: String, scopes: Vec<Scope> },
}

#[derive(Subcommand)]
pub enum Token {
    /// Makes a token and prints it. The token cannot be shown again
    Add {
        #[arg(long, value_name = "NAME")]
        user: UserName,
        /// A scope of the token, at most those of the user; can be repeated [default: all scopes of the user]
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<Scope>,
        /// The lifetime, such as 30d [default: until it is revoked]
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        expires: Option<Duration>,
        /// The purpose of the token, shown in the list
        #[arg(long, default_value = "")]
        label: String,
    },
    /// Lists the tokens of all users or of one, without the secrets
    List {
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Revokes a token by its id
    Revoke { id: String },
}

fn open(config: &Config) -> anyhow::Result<Accounts> {
    Ok(Accounts::open(&Database::open(&config.data)?)?)
}

pub fn user(config: &Config, user: User) -> anyhow::Result<ExitCode> {
    let accounts = open(config)?;
    match user {
        User::Add { name, scopes, no_password } => {
            let password = if no_password { None } else { Some(password(name.as_str())?) };
            accounts.add_user(&name, password.as_deref(), &scopes)?;
            output::note(format_args!("added user {name}, scopes: {}", list(&scopes)));
        }
        User::List => {
            for accounts::User { name, scopes, password, tokens, created } in accounts.users()? {
                let login = if password { "can log in" } else { "cannot log in" };
                let tokens = if tokens == 1 { "1 token".into() } else { format!("{tokens} tokens") };
                let (since, may) = (created.date(), list(&scopes));
                output::line(format_args!("{name}  since {since}  {login}  {tokens}  scopes: {may}"));
            }
        }
        User::Remove { name } => {
            accounts.remove_user(&name)?;
            output::note(format_args!("removed user {name}"));
        }
        User::Passwd { name } => {
            accounts.set_password(&name, &password(&name)?)?;
            output::note(format_args!("changed the password of {name}; all sessions have ended"));
        }
        User::Scopes { name, scopes } => {
            accounts.set_scopes(&name, &scopes)?;
            output::note(format_args!("changed scopes of {name}: {}", list(&scopes)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub fn token(config: &Config, token: Token) -> anyhow::Result<ExitCode> {
    let accounts = open(config)?;
    match token {
        Token::Add { user, scopes, expires, label } => {
            let expires = expires.map(after).transpose()?;
            let scopes = if scopes.is_empty() { vec![Scope::all()] } else { scopes };
            let user = TokenUser::Name(user.as_str().to_owned());
            let (token, secret) = accounts.add_token(&NewToken { user, label, scopes, expires, parent: None })?;
            output::note(format_args!("token {} of {}, shown this once:", token.id, token.user));
            if let Err(error) = output::once(secret.as_str()) {
                let id = &token.id;
                // A token that was not shown is useless to its user, and must not be usable by anyone else.
                accounts.revoke(id, None).with_context(|| {
                    format!("the token {id} was not shown ({error}) and is still valid: revoke it with its id")
                })?;
                bail!("cannot write to stdout: {error}: the token {id} was not shown, and is revoked");
            }
        }
        Token::List { user } => {
            for token in accounts.tokens(user.map(TokenUser::Name).as_ref())? {
                let when = |moment: Option<OffsetDateTime>, none| {
                    moment.map_or_else(|| String::from(none), |it| it.date().to_string())
                };
                let parent = token.parent.map_or_else(String::new, |parent| format!("  made with {parent}"));
                output::line(format_args!(
                    "{}  {}  since {}  expires {}  used {}{parent}  scopes: {}{}",
                    token.id,
                    token.user,
                    token.created.date(),
                    when(token.expires, "never"),
                    when(token.used, "never"),
                    list(&token.scopes),
                    if token.label.is_empty() { String::new() } else { format!("  ({})", token.label) },
                ));
            }
        }
        Token::Revoke { id } => {
            ensure!(accounts.revoke(&id, None)?, "there is no token {id:?}: `distillery token list` shows all");
            output::note(format_args!("revoked token {id}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub fn backup(config: &Config, file: &Path) -> anyhow::Result<ExitCode> {
    let there = config.data.join(FILE);
    ensure!(there.is_file(), "there is nothing to back up: {} does not exist", there.display());
    Database::open(&config.data)?.backup(file)?;
    output::note(format_args!(
        "saved the database to {}. To restore it, stop the server, copy the file over {1}, and delete {1}-wal and {1}-shm",
        file.display(),
        there.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn list(scopes: &[Scope]) -> String {
    if scopes.is_empty() {
        return "nothing beyond what everybody may".into();
    }
    scopes.iter().map(Scope::to_string).collect::<Vec<_>>().join(" ")
}

/// Returns the time after this duration.
fn after(duration: Duration) -> anyhow::Result<OffsetDateTime> {
    let later = time::Duration::try_from(duration).ok().and_then(|it| OffsetDateTime::now_utc().checked_add(it));
    later.context("the expiry is too far in the future: leave out --expires for a token that never expires")
}

/// Reads a password: typed twice without echo on a terminal, or from stdin.
fn password(user: &str) -> anyhow::Result<String> {
    if io::stdin().is_terminal() {
        let ask = |what: &str| rpassword::prompt_password(what).context("the terminal cannot be read");
        let password = ask(&format!("new password of {user}: "))?;
        ensure!(password == ask("the same again: ")?, "the two are not the same: nothing was changed");
        return Ok(password);
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line).context("stdin cannot be read")?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("there is no password: type it on a terminal, or write it to stdin");
    }
    Ok(password.to_owned())
}
