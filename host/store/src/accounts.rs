//! Users, their tokens and their sessions. Credentials are stored only as hashes.
//!
//! Checks only read. New sessions and uses of tokens stay in memory until [`Accounts::write_pending`] writes them, so a
//! caller never waits for a write. The module knows nothing of requests. All functions here block.

mod pending;
mod sessions;
mod tokens;

pub use sessions::Verified;
pub use tokens::{NewToken, Token, TokenUser};

use super::{
    connections::{Readers, Writer},
    database::{Database, StoreError},
};
use argon2::Config;
use distillery_core::{
    auth::{Scope, UserName},
    principal::UserId,
};
use pending::Pending;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};
use time::OffsetDateTime;

/// The prefix of tokens, by which people and scanners recognize one.
pub const TOKEN_PREFIX: &str = "dst_";
/// Maximum length of a password in bytes.
pub const PASSWORD: usize = 1024;
/// Maximum number of tokens of a user.
pub const TOKENS: u32 = 1000;

/// A hash that no password matches. Checking it costs as much as checking the password of a user.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The accounts and their credentials.
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

/// A credential: long, random, and known only to its holder.
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

/// The hash under which a credential is stored. Credentials are random and long, so a fast hash is as good as a slow
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }
}

/// The identity and rights that a valid credential proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub id: UserId,
    pub user: UserName,
    /// The id of the token. `None` if it is a session.
    pub token: Option<Arc<str>>,
    /// The present rights of its holder: never more than those of the user.
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

    /// Adds a user. A user without a password cannot log in.
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

    /// Returns all users, by name.
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

    /// Returns the account of a user, and its scopes.
    pub fn user(&self, name: &str) -> Result<Option<(UserId, Vec<Scope>)>, StoreError> {
        self.readers.read(|db| user_in(db, name))
    }

    /// Removes a user with all tokens and sessions.
    pub fn remove_user(&self, name: &str) -> Result<(), AccountError> {
        self.of_user(name, |db| db.execute("DELETE FROM users WHERE name = ?1", [name]))
    }

    /// Sets a password, and ends the sessions that began with the previous one.
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

    /// Makes a change to one user. Fails if there is no such user.
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

/// Returns the account of a user, and its scopes.
pub(super) fn user_in(db: &Connection, name: &str) -> rusqlite::Result<Option<(UserId, Vec<Scope>)>> {
    const ONE: &str = "SELECT id, scopes FROM users WHERE name = ?1";
    db.query_row(ONE, [name], |row| Ok((UserId::known(row.get(0)?), split(&row.get::<_, String>(1)?)))).optional()
}

/// Hashes with Argon2id, 19 MiB and two passes. A check takes some tens of milliseconds, and so does each guess of an
/// attacker with the file.
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

/// Joins scopes with spaces, as scopes contain none.
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
