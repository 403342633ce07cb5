//! API tokens. A token that another token makes never has more rights than its parent, and expires with it at the
//! latest.

use super::{
    AccountError, Accounts, Hash, Proof, Secret, TOKEN_PREFIX, TOKENS, hex, joined, moment, now, random, split,
};
use crate::database::StoreError;
use distillery_core::{
    auth::{Scope, UserName},
    principal::UserId,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::sync::Arc;
use time::OffsetDateTime;

/// A use within this many seconds of the last recorded one is not recorded.
const USED_STEP: i64 = 60;

/// The metadata of a token, without the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    pub user: UserName,
    pub label: String,
    pub scopes: Vec<Scope>,
    pub created: OffsetDateTime,
    pub expires: Option<OffsetDateTime>,
    /// Accurate to the minute.
    pub used: Option<OffsetDateTime>,
    /// The id of the token that made this one, if one did.
    pub parent: Option<String>,
}

/// A user, by account or by present name.
#[derive(Clone, Debug)]
pub enum TokenUser {
    Id(UserId),
    Name(String),
}

/// A request for a token.
#[derive(Clone, Debug)]
pub struct NewToken {
    pub user: TokenUser,
    pub label: String,
    pub scopes: Vec<Scope>,
    pub expires: Option<OffsetDateTime>,
    /// The id of the token that makes this one, if one does.
    pub parent: Option<Arc<str>>,
}

impl TokenUser {
    /// Returns the values of `(?1 IS NULL OR id = ?1) AND (?2 IS NULL OR name = ?2)`.
    fn values(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::Id(id) => (Some(id.as_str()), None),
            Self::Name(name) => (None, Some(name)),
        }
    }

    fn find(&self, db: &Connection) -> rusqlite::Result<Option<(String, Vec<Scope>)>> {
        const ONE: &str = "SELECT name, scopes FROM users WHERE id = ?1 OR name = ?2";
        let user = |row: &Row<'_>| Ok((row.get(0)?, split(&row.get::<_, String>(1)?)));
        db.query_row(ONE, self.values(), user).optional()
    }

    fn none(&self) -> AccountError {
        let (id, name) = self.values();
        AccountError::NoUser(name.or(id).unwrap_or_default().to_owned())
    }
}

impl Accounts {
    /// Makes a token. Its secret is returned here and never again.
    pub fn add_token(&self, new: &NewToken) -> Result<(Token, Secret), AccountError> {
        let (secret, id) = (Secret::random(TOKEN_PREFIX)?, hex(&random::<6>()?));
        let token = self.writer.change(|db| add(db, id, &Hash::of(secret.as_str()), new))??;
        Ok((token, secret))
    }

    /// Returns the tokens of one user or of all, oldest first.
    pub fn tokens(&self, user: Option<&TokenUser>) -> Result<Vec<Token>, StoreError> {
        const SOME: &str = "SELECT tokens.id, user, label, tokens.scopes, tokens.created, expires, used, parent
            FROM tokens JOIN users ON users.name = user
            WHERE (?1 IS NULL OR users.id = ?1) AND (?2 IS NULL OR users.name = ?2)
            ORDER BY tokens.created, tokens.rowid";
        let values = user.map_or((None, None), TokenUser::values);
        let mut all: Vec<Token> = self.readers.read(|db| db.prepare(SOME)?.query_map(values, token)?.collect())?;
        for token in &mut all {
            token.used = self.pending.used(&token.id).map(moment).max(token.used);
        }
        Ok(all)
    }

    /// Removes a token and its descendants. With `user`, only if the token belongs to that user. Returns whether it was
    /// removed.
    pub fn revoke(&self, id: &str, user: Option<&UserId>) -> Result<bool, StoreError> {
        const ONE: &str = "DELETE FROM tokens
            WHERE id = ?1 AND (?2 IS NULL OR user = (SELECT name FROM users WHERE users.id = ?2))";
        Ok(self.writer.change(|db| db.execute(ONE, params![id, user.map(UserId::as_str)]))? > 0)
    }

    /// Returns the proof of a token. `None` if the token is unknown or expired. Its use becomes a pending write.
    pub fn token(&self, secret: &Hash) -> Result<Option<Proof>, StoreError> {
        const ONE: &str = "SELECT users.id, name, users.scopes, tokens.id, tokens.scopes, expires, used FROM tokens
            JOIN users ON name = user WHERE hash = ?1 AND (expires IS NULL OR expires > ?2)";
        let now = now();
        let found = self.readers.read(|db| {
            let token = |row: &Row<'_>| {
                let held: Vec<Scope> = split(&row.get::<_, String>(2)?);
                let asked = split(&row.get::<_, String>(4)?);
                let proof = Proof {
                    id: UserId::known(row.get(0)?),
                    user: UserName::known(row.get(1)?),
                    token: Some(row.get::<_, String>(3)?.into()),
                    scopes: Scope::common(&asked, &held),
                    expires: row.get::<_, Option<i64>>(5)?.map(moment),
                };
                Ok((proof, row.get::<_, Option<i64>>(6)?))
            };
            db.query_row(ONE, params![secret.0, now], token).optional()
        })?;
        let Some((proof, used)) = found else { return Ok(None) };
        if let Some(id) = &proof.token
            && used.max(self.pending.used(id)).is_none_or(|used| now - used >= USED_STEP)
        {
            self.pending.note_use(id, now);
        }
        Ok(Some(proof))
    }
}

fn add(db: &Connection, id: String, hash: &Hash, new: &NewToken) -> rusqlite::Result<Result<Token, AccountError>> {
    let NewToken { user, label, mut scopes, mut expires, parent } = new.clone();
    let Some((name, held)) = user.find(db)? else { return Ok(Err(user.none())) };
    let created = now();
    if let Some(parent) = &parent {
        const ALIVE: &str = "SELECT scopes, expires FROM tokens WHERE id = ?1 AND user = ?2
            AND (expires IS NULL OR expires > ?3)";
        let alive = |row: &Row<'_>| Ok((split(&row.get::<_, String>(0)?), row.get::<_, Option<i64>>(1)?));
        let alive = db.query_row(ALIVE, params![parent, name, created], alive).optional()?;
        let Some((most, until)) = alive else { return Ok(Err(AccountError::NoParent)) };
        scopes = Scope::common(&scopes, &Scope::common(&most, &held));
        expires = expires.into_iter().chain(until.map(moment)).min();
    }
    if let Some(scope) = scopes.iter().find(|it| **it != Scope::all() && it.within(&held).is_empty()) {
        return Ok(Err(AccountError::TooMuch { user: name, scope: scope.clone() }));
    }
    let has: u32 = db.query_row("SELECT count(*) FROM tokens WHERE user = ?1", [&name], |row| row.get(0))?;
    if has >= TOKENS {
        return Ok(Err(AccountError::TooManyTokens(name)));
    }
    db.execute(
        "INSERT INTO tokens (id, user, hash, label, scopes, created, expires, parent)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            id,
            name,
            hash.0,
            label,
            joined(&scopes),
            created,
            expires.map(OffsetDateTime::unix_timestamp),
            parent.as_deref(),
        ],
    )?;
    let (user, parent) = (UserName::known(name), parent.map(|it| it.as_ref().to_owned()));
    Ok(Ok(Token { id, user, label, scopes, created: moment(created), expires, used: None, parent }))
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
        parent: row.get(7)?,
    })
}
