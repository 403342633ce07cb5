//! Users, their tokens and their sessions. What proves who a caller is, is kept as a hash only.
//!
//! Checks only read. What a check has to note, and a new session, is kept in memory until [`Accounts::write_pending`]
//! writes it, so that a caller never waits for a write. It knows nothing of requests. Everything here blocks.

mod pending;
mod sessions;
mod tokens;

pub use sessions::Verified;
pub use tokens::{NewToken, Token, TokenUser};

use super::{
    connections::{Readers, Writer},
    database::{Database, StoreError},
};
use crate::{
    auth::{Scope, UserName},
    principal::UserId,
};
use argon2::Config;
use pending::Pending;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};
use time::OffsetDateTime;

/// How a token begins, so that people and scanners know one when they see it.
pub const TOKEN_PREFIX: &str = "dst_";
/// The longest password that is looked at.
pub const PASSWORD: usize = 1024;
/// How many tokens a user may have.
pub const TOKENS: u32 = 1000;

/// What nobody's password hashes to: it is as costly to look at as that of a user.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Who may come in, and what shows who they are.
pub struct Accounts {
    readers: Readers,
    writer: Writer,
    pending: Pending,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: UserName,
    pub scopes: Vec<Scope>,
    /// Whether the user can log in.
    pub password: bool,
    pub tokens: u32,
    pub created: OffsetDateTime,
}

/// What a caller shows: long, random, and known to nobody else.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    fn random(prefix: &str) -> Result<Self, AccountError> {
        Ok(Self(format!("{prefix}{}", hex(&random::<32>()?))))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The hash by which a secret is known. Secrets are random and long, so that a quick hash is as good as a slow one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }
}

/// What a secret stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub id: UserId,
    pub user: UserName,
    /// The id of the token. `None` if it is a session.
    pub token: Option<Arc<str>>,
    /// What its holder may do now: never more than the user.
    pub scopes: Vec<Scope>,
    pub expires: Option<OffsetDateTime>,
}

#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no user {0:?}: `distillery user list` shows all")]
    NoUser(String),
    #[error("there is a user {:?} already: change it with `distillery user passwd` and `distillery user scopes`", .0.as_str())]
    Exists(UserName),
    #[error("the user {user:?} does not hold {scope}: no token of theirs can")]
    TooMuch { user: String, scope: Scope },
    #[error("{0:?} has {TOKENS} tokens, which is the most: revoke one first")]
    TooManyTokens(String),
    #[error("the token that was to make another one is revoked or expired")]
    NoParent,
    #[error("too many sessions wait to be written: try again in a moment")]
    TooManySessions,
    #[error("a password must have 8 to {PASSWORD} bytes")]
    BadPassword,
    #[error("the system gives no random numbers: {0}")]
    NoRandom(getrandom::Error),
    #[error("a password cannot be hashed: {0}")]
    NoHash(argon2::Error),
}

impl Accounts {
    pub fn open(database: &Database) -> Result<Self, StoreError> {
        Ok(Self { readers: Readers::open(database)?, writer: Writer::open(database)?, pending: Pending::default() })
    }

    /// Adds a user, who can log in if there is a password.
    pub fn add_user(&self, name: &UserName, password: Option<&str>, scopes: &[Scope]) -> Result<(), AccountError> {
        let (id, password) = (hex(&random::<16>()?), password.map(hashed).transpose()?);
        let added = self.writer.change(|db| {
            db.execute(
                "INSERT INTO users (id, name, password, scopes, created) VALUES (?1, ?2, ?3, ?4, ?5)
                    ON CONFLICT (name) DO NOTHING",
                params![id, name.as_str(), password, joined(scopes), now()],
            )
        })?;
        if added == 0 { Err(AccountError::Exists(name.clone())) } else { Ok(()) }
    }

    /// All users, by name.
    pub fn users(&self) -> Result<Vec<User>, StoreError> {
        const ALL: &str = "SELECT name, scopes, password IS NOT NULL, created,
            (SELECT count(*) FROM tokens WHERE user = name) FROM users ORDER BY name";
        self.readers.read(|db| {
            let mut statement = db.prepare(ALL)?;
            let users = statement.query_map([], |row| {
                Ok(User {
                    name: UserName::known(row.get(0)?),
                    scopes: split(&row.get::<_, String>(1)?),
                    password: row.get(2)?,
                    created: moment(row.get(3)?),
                    tokens: row.get(4)?,
                })
            })?;
            users.collect()
        })
    }

    pub fn has_users(&self) -> Result<bool, StoreError> {
        self.readers.read(|db| db.query_row("SELECT EXISTS (SELECT 1 FROM users)", [], |row| row.get(0)))
    }

    /// Returns the account of a user and what the user may do.
    pub fn user(&self, name: &str) -> Result<Option<(UserId, Vec<Scope>)>, StoreError> {
        const ONE: &str = "SELECT id, scopes FROM users WHERE name = ?1";
        self.readers.read(|db| {
            db.query_row(ONE, [name], |row| Ok((UserId::known(row.get(0)?), split(&row.get::<_, String>(1)?))))
                .optional()
        })
    }

    /// Removes a user, and with them their tokens and sessions.
    pub fn remove_user(&self, name: &str) -> Result<(), AccountError> {
        self.of_user(name, |db| db.execute("DELETE FROM users WHERE name = ?1", [name]))
    }

    /// Sets a password, and ends the sessions that were begun with the one before.
    pub fn set_password(&self, name: &str, password: &str) -> Result<(), AccountError> {
        let password = hashed(password)?;
        self.of_user(name, |db| {
            db.execute("DELETE FROM sessions WHERE user = ?1", [name])?;
            db.execute("UPDATE users SET password = ?2 WHERE name = ?1", [name, &password])
        })
    }

    pub fn set_scopes(&self, name: &str, scopes: &[Scope]) -> Result<(), AccountError> {
        self.of_user(name, |db| db.execute("UPDATE users SET scopes = ?2 WHERE name = ?1", [name, &joined(scopes)]))
    }

    /// A change that tells how many users it changed.
    fn of_user(
        &self,
        name: &str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<usize>,
    ) -> Result<(), AccountError> {
        match self.writer.change(work)? {
            0 => Err(AccountError::NoUser(name.to_owned())),
            _ => Ok(()),
        }
    }
}

/// Argon2id with 19 MiB and two passes: some tens of milliseconds, and as much for each guess of whoever has the file.
fn hashed(password: &str) -> Result<String, AccountError> {
    if !(8..=PASSWORD).contains(&password.len()) {
        return Err(AccountError::BadPassword);
    }
    argon2::hash_encoded(password.as_bytes(), &random::<16>()?, &Config::default()).map_err(AccountError::NoHash)
}

fn random<const N: usize>() -> Result<[u8; N], AccountError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(AccountError::NoRandom)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Scopes hold no spaces.
fn joined(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.0.as_str()).collect::<Vec<_>>().join(" ")
}

fn split(scopes: &str) -> Vec<Scope> {
    scopes.split_ascii_whitespace().map(|scope| Scope(scope.to_owned())).collect()
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

fn moment(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
