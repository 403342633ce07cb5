//! Users, their tokens and their sessions. What proves who somebody is, is kept as a hash only.
//!
//! It knows nothing of requests. Everything here blocks.

use super::database::{Database, StoreError};
use crate::auth::{Scope, UserName};
use argon2::Config;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use sha2::{Digest, Sha256};
use std::fmt;
use time::{Duration, OffsetDateTime};

/// How a token begins, so that people and scanners know one when they see it.
pub const TOKEN_PREFIX: &str = "dst_";
/// The longest password that is looked at.
pub const PASSWORD: usize = 1024;
/// How many tokens a user may have.
pub const TOKENS: u32 = 1000;
/// A use within so much of the last one that was noted is not noted again.
const USED_STEP: Duration = Duration::minutes(1);

/// What nobody's password hashes to: it is as costly to look at as that of a user.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Who may come in, and what shows who they are.
pub struct Accounts {
    database: Database,
    connection: Mutex<Connection>,
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

/// What is known of a token: everything but the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    pub user: UserName,
    pub label: String,
    pub scopes: Vec<Scope>,
    pub created: OffsetDateTime,
    pub expires: Option<OffsetDateTime>,
    /// To the minute.
    pub used: Option<OffsetDateTime>,
}

/// A token that is to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    pub user: UserName,
    pub label: String,
    pub scopes: Vec<Scope>,
    pub expires: Option<OffsetDateTime>,
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
    pub user: UserName,
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
    #[error("{:?} has {TOKENS} tokens, and nobody may have more: revoke one first", .0.as_str())]
    TooManyTokens(UserName),
    #[error("a password must have 8 to {PASSWORD} bytes")]
    BadPassword,
    #[error("the system gives no random numbers: {0}")]
    NoRandom(getrandom::Error),
    #[error("a password cannot be hashed: {0}")]
    NoHash(argon2::Error),
}

impl Accounts {
    pub fn open(database: &Database) -> Result<Self, StoreError> {
        Ok(Self { database: database.clone(), connection: Mutex::new(database.connect()?) })
    }

    /// Does all of `work` or nothing of it.
    fn change<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut connection = self.connection.lock();
        let done = move || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        done().map_err(self.database.told())
    }

    fn look<T>(&self, look: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        look(&self.connection.lock()).map_err(self.database.told())
    }

    /// Adds a user, who can log in if there is a password.
    pub fn add_user(&self, name: &UserName, password: Option<&str>, scopes: &[Scope]) -> Result<(), AccountError> {
        let password = password.map(hashed).transpose()?;
        let added = self.change(|db| {
            db.execute(
                "INSERT INTO users VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                params![name.as_str(), password, joined(scopes), now()],
            )
        })?;
        if added == 0 { Err(AccountError::Exists(name.clone())) } else { Ok(()) }
    }

    /// All users, by name.
    pub fn users(&self) -> Result<Vec<User>, StoreError> {
        const ALL: &str = "SELECT name, scopes, password IS NOT NULL, created,
            (SELECT count(*) FROM tokens WHERE user = name) FROM users ORDER BY name";
        self.look(|db| {
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
        self.look(|db| db.query_row("SELECT EXISTS (SELECT 1 FROM users)", [], |row| row.get(0)))
    }

    /// What a user may do; nothing where there is no such user.
    pub fn scopes_of(&self, name: &str) -> Result<Option<Vec<Scope>>, StoreError> {
        self.look(|db| scopes_of(db, name))
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
        match self.change(work)? {
            0 => Err(AccountError::NoUser(name.to_owned())),
            _ => Ok(()),
        }
    }

    /// Whether `password` is that of the user. It takes as long for one who does not exist.
    pub fn knows(&self, name: &str, password: &str) -> Result<bool, StoreError> {
        let kept: Option<Option<String>> = self.look(|db| {
            db.query_row("SELECT password FROM users WHERE name = ?1", [name], |row| row.get(0)).optional()
        })?;
        let kept = kept.flatten();
        let short = &password.as_bytes()[..password.len().min(PASSWORD)];
        let right = argon2::verify_encoded(kept.as_deref().unwrap_or(NOBODYS), short).unwrap_or(false);
        Ok(right && kept.is_some() && password.len() <= PASSWORD)
    }

    /// Makes a token. It is shown here and never again.
    pub fn add_token(&self, new: &NewToken) -> Result<(Token, Secret), AccountError> {
        let (secret, id) = (Secret::random(TOKEN_PREFIX)?, hex(&random::<6>()?));
        let Hash(hash) = Hash::of(secret.as_str());
        let NewToken { user, label, scopes, expires } = new.clone();
        let token = Token { id, user, label, scopes, created: moment(now()), expires, used: None };
        let user = token.user.as_str();
        self.change(|db| {
            let Some(held) = scopes_of(db, user)? else { return Ok(Err(AccountError::NoUser(user.to_owned()))) };
            if let Some(scope) = token.scopes.iter().find(|it| **it != Scope::all() && it.within(&held).is_empty()) {
                return Ok(Err(AccountError::TooMuch { user: user.to_owned(), scope: scope.clone() }));
            }
            let has: u32 = db.query_row("SELECT count(*) FROM tokens WHERE user = ?1", [user], |row| row.get(0))?;
            if has >= TOKENS {
                return Ok(Err(AccountError::TooManyTokens(token.user.clone())));
            }
            db.execute(
                "INSERT INTO tokens VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL)",
                params![
                    token.id,
                    user,
                    hash,
                    token.label,
                    joined(&token.scopes),
                    token.created.unix_timestamp(),
                    token.expires.map(OffsetDateTime::unix_timestamp),
                ],
            )?;
            Ok(Ok(()))
        })??;
        Ok((token, secret))
    }

    /// The tokens of one user or of all, the oldest first.
    pub fn tokens(&self, user: Option<&str>) -> Result<Vec<Token>, StoreError> {
        const SOME: &str = "SELECT id, user, label, scopes, created, expires, used FROM tokens
            WHERE ?1 IS NULL OR user = ?1 ORDER BY created, rowid";
        self.look(|db| db.prepare(SOME)?.query_map([user], token)?.collect())
    }

    /// Removes a token, if it is there and `user`'s, where one is named. Says whether it was.
    pub fn revoke(&self, id: &str, user: Option<&str>) -> Result<bool, StoreError> {
        let gone = self.change(|db| {
            db.execute("DELETE FROM tokens WHERE id = ?1 AND (?2 IS NULL OR user = ?2)", params![id, user])
        })?;
        Ok(gone > 0)
    }

    /// Begins a session, and forgets those that are over.
    pub fn begin_session(&self, user: &UserName, lasts: Duration) -> Result<Secret, AccountError> {
        let secret = Secret::random("")?;
        let (Hash(hash), now) = (Hash::of(secret.as_str()), now());
        self.change(|db| {
            db.execute("DELETE FROM sessions WHERE expires <= ?1", [now])?;
            let until = now.saturating_add(lasts.whole_seconds());
            db.execute("INSERT INTO sessions VALUES (?1, ?2, ?3, ?4)", params![hash, user.as_str(), now, until])
        })?;
        Ok(secret)
    }

    pub fn end_session(&self, secret: &Hash) -> Result<(), StoreError> {
        self.change(|db| db.execute("DELETE FROM sessions WHERE hash = ?1", [secret.0]))?;
        Ok(())
    }

    /// Whose session it is, if it is one that is not over.
    pub fn session(&self, secret: &Hash) -> Result<Option<Proof>, StoreError> {
        const ONE: &str = "SELECT name, scopes, expires FROM sessions JOIN users ON name = user
            WHERE hash = ?1 AND expires > ?2";
        self.look(|db| {
            let session = |row: &Row<'_>| {
                Ok(Proof {
                    user: UserName::known(row.get(0)?),
                    scopes: split(&row.get::<_, String>(1)?),
                    expires: Some(moment(row.get(2)?)),
                })
            };
            db.prepare(ONE)?.query_row(params![secret.0, now()], session).optional()
        })
    }

    /// What a token stands for, if it is one that has not expired. Notes that it was used.
    pub fn token(&self, secret: &Hash) -> Result<Option<Proof>, StoreError> {
        const ONE: &str = "SELECT name, users.scopes, tokens.scopes, expires, used FROM tokens
            JOIN users ON name = user WHERE hash = ?1 AND (expires IS NULL OR expires > ?2)";
        let now = now();
        let found = self.look(|db| {
            let token = |row: &Row<'_>| {
                let held: Vec<Scope> = split(&row.get::<_, String>(1)?);
                let asked = split(&row.get::<_, String>(2)?);
                let proof = Proof {
                    user: UserName::known(row.get(0)?),
                    scopes: Scope::common(&asked, &held),
                    expires: row.get::<_, Option<i64>>(3)?.map(moment),
                };
                Ok((proof, row.get::<_, Option<i64>>(4)?))
            };
            db.prepare(ONE)?.query_row(params![secret.0, now], token).optional()
        })?;
        let Some((proof, used)) = found else { return Ok(None) };
        if used.is_none_or(|used| now - used >= USED_STEP.whole_seconds()) {
            // A disk that is full keeps nobody out.
            let noted =
                self.change(|db| db.execute("UPDATE tokens SET used = ?2 WHERE hash = ?1", params![secret.0, now]));
            if let Err(error) = noted {
                tracing::warn!(%error, "the use of a token was not noted");
            }
        }
        Ok(Some(proof))
    }
}

fn scopes_of(db: &Connection, name: &str) -> rusqlite::Result<Option<Vec<Scope>>> {
    let scopes = db.query_row("SELECT scopes FROM users WHERE name = ?1", [name], |row| row.get::<_, String>(0));
    Ok(scopes.optional()?.map(|scopes| split(&scopes)))
}

fn token(row: &Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        id: row.get(0)?,
        user: UserName::known(row.get(1)?),
        label: row.get(2)?,
        scopes: split(&row.get::<_, String>(3)?),
        created: moment(row.get(4)?),
        expires: row.get::<_, Option<i64>>(5)?.map(moment),
        used: row.get::<_, Option<i64>>(6)?.map(moment),
    })
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
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn accounts() -> (TempDir, Accounts) {
        let directory = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(&Database::open(directory.path()).unwrap()).unwrap();
        (directory, accounts)
    }

    fn name(name: &str) -> UserName {
        name.parse().unwrap()
    }

    fn scopes(list: &[&str]) -> Vec<Scope> {
        list.iter().map(|it| it.parse().unwrap()).collect()
    }

    fn new(user: &str, list: &[&str], expires: Option<OffsetDateTime>) -> NewToken {
        NewToken { user: name(user), label: "laptop".into(), scopes: scopes(list), expires }
    }

    #[test]
    fn a_password_is_known_and_kept_as_a_hash_only() {
        let (directory, accounts) = accounts();
        accounts.add_user(&name("ada"), Some("correct horse"), &[]).unwrap();
        accounts.add_user(&name("robot"), None, &[]).unwrap();
        assert!(accounts.knows("ada", "correct horse").unwrap());
        for (user, password) in [("ada", "wrong horse"), ("ada", ""), ("bob", "correct horse"), ("robot", "")] {
            assert!(!accounts.knows(user, password).unwrap(), "{user} {password:?}");
        }
        accounts.set_password("ada", "another horse").unwrap();
        assert!(!accounts.knows("ada", "correct horse").unwrap());
        assert!(accounts.knows("ada", "another horse").unwrap());
        drop(accounts);
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(5).any(|part| part == b"horse"));
        }
    }

    #[test]
    fn a_guess_at_nobody_costs_as_much_as_one_at_a_user() {
        assert!(!argon2::verify_encoded(NOBODYS, b"anything").unwrap());
        let settings = |hash: &str| hash.split('$').skip(1).take(3).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(settings(NOBODYS), settings(&hashed("anything").unwrap()));
    }

    #[test]
    fn a_user_is_there_once_and_goes_with_all_that_is_theirs() {
        let (_directory, accounts) = accounts();
        assert!(!accounts.has_users().unwrap());
        accounts.add_user(&name("ada"), None, &scopes(&["call:*"])).unwrap();
        let again = accounts.add_user(&name("ada"), None, &[]).unwrap_err().to_string();
        assert!(again.starts_with("there is a user \"ada\" already: "), "{again}");
        assert!(matches!(accounts.set_password("bob", "long enough"), Err(AccountError::NoUser(_))));
        assert!(matches!(accounts.set_password("ada", "short"), Err(AccountError::BadPassword)));
        let (_, token) = accounts.add_token(&new("ada", &["call:*"], None)).unwrap();
        let session = accounts.begin_session(&name("ada"), Duration::HOUR).unwrap();
        let [user] = &accounts.users().unwrap()[..] else { panic!() };
        assert_eq!((user.scopes.as_slice(), user.password, user.tokens), (&*scopes(&["call:*"]), false, 1));
        accounts.remove_user("ada").unwrap();
        assert_eq!(accounts.token(&Hash::of(token.as_str())).unwrap(), None);
        assert_eq!(accounts.session(&Hash::of(session.as_str())).unwrap(), None);
        assert!(accounts.tokens(None).unwrap().is_empty());
        assert!(matches!(accounts.remove_user("ada"), Err(AccountError::NoUser(_))));
    }

    #[test]
    fn a_token_never_stands_for_more_than_its_user() {
        let (_directory, accounts) = accounts();
        accounts.add_user(&name("ada"), None, &scopes(&["call:echo", "call:pro*", "news:write"])).unwrap();
        let (token, secret) = accounts.add_token(&new("ada", &["call:*"], None)).unwrap();
        assert!(secret.as_str().starts_with(TOKEN_PREFIX) && secret.as_str().len() == 68);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        let now = |accounts: &Accounts| accounts.token(&Hash::of(secret.as_str())).unwrap().unwrap().scopes;
        assert_eq!(now(&accounts), scopes(&["call:echo", "call:pro*"]));
        accounts.set_scopes("ada", &scopes(&["call:provision"])).unwrap();
        assert_eq!(now(&accounts), scopes(&["call:provision"]));
        let error = accounts.add_token(&new("ada", &["news:write"], None)).unwrap_err();
        assert_eq!(error.to_string(), "the user \"ada\" does not hold news:write: no token of theirs can");
        assert!(accounts.tokens(Some("ada")).unwrap()[0].used.is_some());
        assert_eq!(accounts.tokens(Some("bob")).unwrap(), []);
        assert!(!accounts.revoke(&token.id, Some("bob")).unwrap());
        assert!(accounts.revoke(&token.id, Some("ada")).unwrap());
        assert_eq!(accounts.token(&Hash::of(secret.as_str())).unwrap(), None);
    }

    #[test]
    fn what_has_expired_stands_for_nothing() {
        let (_directory, accounts) = accounts();
        accounts.add_user(&name("ada"), Some("correct horse"), &[]).unwrap();
        let past = OffsetDateTime::now_utc() - Duration::SECOND;
        let (_, old) = accounts.add_token(&new("ada", &[], Some(past))).unwrap();
        let (_, good) = accounts.add_token(&new("ada", &[], Some(past + Duration::HOUR))).unwrap();
        assert_eq!(accounts.token(&Hash::of(old.as_str())).unwrap(), None);
        assert_eq!(accounts.token(&Hash::of(good.as_str())).unwrap().unwrap().user, name("ada"));
        let over = accounts.begin_session(&name("ada"), Duration::ZERO).unwrap();
        assert_eq!(accounts.session(&Hash::of(over.as_str())).unwrap(), None);
        let session = accounts.begin_session(&name("ada"), Duration::HOUR).unwrap();
        assert_eq!(accounts.session(&Hash::of(session.as_str())).unwrap().unwrap().user, name("ada"));
        accounts.end_session(&Hash::of(session.as_str())).unwrap();
        assert_eq!(accounts.session(&Hash::of(session.as_str())).unwrap(), None);
    }
}
