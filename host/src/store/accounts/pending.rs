//! What is true already and waits to be written: new sessions, and when tokens were used.

use super::{Accounts, Hash, now};
use crate::{
    principal::UserId,
    store::{connections::change, database::StoreError},
};
use parking_lot::Mutex;
use rusqlite::{Connection, params};
use std::collections::HashMap;

/// Number of sessions that can wait. Each took a password to make.
const SESSIONS: usize = 10_000;
/// Number of tokens whose last use can wait; of more it is not noted.
const USES: usize = 10_000;

/// A session that is not written yet.
#[derive(Clone)]
pub(super) struct Session {
    pub user: UserId,
    /// The hash of the password that began it. With another password, the session is over.
    pub password: Option<String>,
    pub created: i64,
    pub expires: i64,
}

/// What waits. It is removed when it is written, while the connection that writes is held.
#[derive(Default)]
pub(super) struct Pending {
    sessions: Mutex<HashMap<Hash, Session>>,
    /// By the id of the token.
    uses: Mutex<HashMap<String, i64>>,
}

impl Pending {
    pub fn session(&self, secret: &Hash) -> Option<Session> {
        self.sessions.lock().get(secret).cloned()
    }

    /// Says whether there is room for it.
    pub fn begin(&self, secret: Hash, session: Session) -> bool {
        let mut sessions = self.sessions.lock();
        if sessions.len() >= SESSIONS {
            let now = now();
            sessions.retain(|_, session| session.expires > now);
        }
        let room = sessions.len() < SESSIONS;
        if room {
            sessions.insert(secret, session);
        }
        room
    }

    /// Says whether there was such a session.
    pub fn end(&self, secret: &Hash) -> bool {
        self.sessions.lock().remove(secret).is_some()
    }

    pub fn note_use(&self, token: &str, at: i64) {
        let mut uses = self.uses.lock();
        if uses.len() < USES || uses.contains_key(token) {
            uses.insert(token.to_owned(), at);
        }
    }

    pub fn used(&self, token: &str) -> Option<i64> {
        self.uses.lock().get(token).copied()
    }

    fn is_empty(&self) -> bool {
        self.sessions.lock().is_empty() && self.uses.lock().is_empty()
    }
}

impl Accounts {
    /// Whether something waits to be written.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes what waits, all of it or nothing. What fails waits on.
    pub fn write_pending(&self) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut connection = self.writer.lock()?;
        let (sessions, uses) = (self.pending.sessions.lock().clone(), self.pending.uses.lock().clone());
        change(self.writer.database(), &mut connection, |db| write(db, &sessions, &uses))?;
        self.pending.sessions.lock().retain(|secret, _| !sessions.contains_key(secret));
        self.pending.uses.lock().retain(|token, at| uses.get(token) != Some(at));
        Ok(())
    }
}

fn write(db: &Connection, sessions: &HashMap<Hash, Session>, uses: &HashMap<String, i64>) -> rusqlite::Result<()> {
    db.execute("DELETE FROM sessions WHERE expires <= ?1", [now()])?;
    // The user may be gone by now, or have another password.
    let mut begin = db.prepare(
        "INSERT OR IGNORE INTO sessions (hash, user, created, expires)
            SELECT ?1, name, ?4, ?5 FROM users WHERE id = ?2 AND password IS ?3",
    )?;
    for (Hash(hash), Session { user, password, created, expires }) in sessions {
        begin.execute(params![hash, user.as_str(), password, created, expires])?;
    }
    let mut note = db.prepare("UPDATE tokens SET used = ?2 WHERE id = ?1 AND (used IS NULL OR used < ?2)")?;
    for (token, at) in uses {
        note.execute(params![token, at])?;
    }
    Ok(())
}
