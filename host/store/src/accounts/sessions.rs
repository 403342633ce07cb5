//! Sessions of browsers, each begun with a password.

use super::{AccountError, Accounts, Hash, NOBODYS, PASSWORD, Proof, Secret, moment, now, pending::Session, split};
use crate::database::StoreError;
use distillery_core::{auth::UserName, principal::UserId};
use rusqlite::{OptionalExtension, Row, params};
use time::Duration;

/// A user whose password was correct.
#[derive(Clone)]
pub struct Verified {
    id: UserId,
    /// The hash of the password.
    password: String,
}

impl Accounts {
    /// Returns the user if `password` is correct. It takes as long for a user who does not exist.
    pub fn verify(&self, name: &str, password: &str) -> Result<Option<Verified>, StoreError> {
        const ONE: &str = "SELECT id, password FROM users WHERE name = ?1";
        let found = self.readers.read(|db| {
            let user = |row: &Row<'_>| Ok((UserId::known(row.get(0)?), row.get::<_, Option<String>>(1)?));
            db.query_row(ONE, [name], user).optional()
        })?;
        let kept = found.and_then(|(id, password)| Some(Verified { id, password: password? }));
        let short = &password.as_bytes()[..password.len().min(PASSWORD)];
        let hash = kept.as_ref().map_or(NOBODYS, |kept| &kept.password);
        let right = argon2::verify_encoded(hash, short).unwrap_or(false);
        Ok(kept.filter(|_| right && password.len() <= PASSWORD))
    }

    /// Begins a session. It is valid at once, and its write is pending.
    pub fn begin_session(&self, user: &Verified, lasts: Duration) -> Result<Secret, AccountError> {
        let (secret, now) = (Secret::random("")?, now());
        let session = Session {
            user: user.id.clone(),
            password: Some(user.password.clone()),
            created: now,
            expires: now.saturating_add(lasts.whole_seconds()),
        };
        if self.pending.begin(Hash::of(secret.as_str()), session) {
            Ok(secret)
        } else {
            Err(AccountError::TooManySessions)
        }
    }

    pub fn end_session(&self, secret: &Hash) -> Result<(), StoreError> {
        if self.pending.session(secret).is_some() {
            // While the lock is held, pending entries are not written.
            let _writer = self.writer.lock()?;
            if self.pending.end(secret) {
                return Ok(());
            }
        }
        self.writer.change(|db| db.execute("DELETE FROM sessions WHERE hash = ?1", [secret.0]))?;
        Ok(())
    }

    /// Returns the proof of a session. `None` if the session is over.
    pub fn session(&self, secret: &Hash) -> Result<Option<Proof>, StoreError> {
        const WAITING: &str = "SELECT id, name, scopes, ?3 FROM users WHERE id = ?1 AND password IS ?2";
        const WRITTEN: &str = "SELECT id, name, scopes, expires FROM sessions JOIN users ON name = user
            WHERE hash = ?1 AND expires > ?2";
        let proof = |row: &Row<'_>| {
            Ok(Proof {
                id: UserId::known(row.get(0)?),
                user: UserName::known(row.get(1)?),
                token: None,
                scopes: split(&row.get::<_, String>(2)?),
                expires: Some(moment(row.get(3)?)),
            })
        };
        // Pending sessions first: one that is written in between is then found in the database.
        if let Some(Session { user, password, expires, .. }) = self.pending.session(secret) {
            if expires <= now() {
                return Ok(None);
            }
            let of_user = params![user.as_str(), password, expires];
            return self.readers.read(|db| db.query_row(WAITING, of_user, proof).optional());
        }
        self.readers.read(|db| db.query_row(WRITTEN, params![secret.0, now()], proof).optional())
    }
}
