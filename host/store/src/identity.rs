//! Identification: turns credentials into a [`Caller`], and logs users in with a password.
//!
//! It knows nothing of HTTP. It queries the database on other threads.

pub mod acting;
pub mod guesses;
pub mod standing;

use crate::{
    accounts::{AccountError, Accounts, Hash, Proof, Secret},
    blocking,
    database::StoreError,
};
use distillery_core::{
    auth::{Caller, Scope, UserName},
    principal::Principal,
};
use guesses::Guesses;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::sync::{Notify, Semaphore};

/// Lifetime of cached credentials; bounds how long a revoked one still works.
const BELIEVED: Duration = Duration::from_millis(500);
/// Maximum number of cached credentials.
const REMEMBERED: usize = 10_000;
/// Maximum number of logins that wait. Each check of a password costs tens of milliseconds and 19 MiB, so checks run
/// one by one.
const LOGINS: usize = 16;
/// Time that sessions and uses of tokens gather before they are written.
const GATHER: Duration = Duration::from_millis(100);
/// Delay before a failed write is retried.
const RETRY: Duration = Duration::from_secs(1);

pub struct Identity {
    accounts: Arc<Accounts>,
    /// Scopes of all callers.
    anonymous: Vec<Scope>,
    session_time: Duration,
    known: Mutex<HashMap<Shown, (Proof, Instant)>>,
    guesses: Guesses,
    waiting: Semaphore,
    looking: Semaphore,
    /// Credentials of open connections.
    in_use: Mutex<standing::InUse>,
    /// Notified when there is something to write.
    pending: Notify,
}

/// The hash of a credential that a client presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shown {
    Token(Hash),
    Session(Hash),
}

#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    #[error("this token is unknown, revoked or expired: make a new one with `distillery token add`")]
    Token,
    #[error("this session is over: log in again")]
    Session,
    #[error(transparent)]
    Account(#[from] AccountError),
}

impl From<StoreError> for Unknown {
    fn from(error: StoreError) -> Self {
        Self::Account(error.into())
    }
}

/// The reason why a login failed.
#[derive(Debug, thiserror::Error)]
pub enum NoEntry {
    #[error("wrong user or password")]
    Wrong,
    #[error("too many tries: wait for {}s", .0.as_secs() + 1)]
    Wait(Duration),
    #[error("too many log in at once: try again in a moment")]
    Busy,
    #[error(transparent)]
    Account(#[from] AccountError),
}

impl From<StoreError> for NoEntry {
    fn from(error: StoreError) -> Self {
        Self::Account(error.into())
    }
}

impl Identity {
    pub fn new(accounts: Arc<Accounts>, anonymous: Vec<Scope>, session_time: Duration) -> Self {
        Self {
            accounts,
            anonymous,
            session_time,
            known: Mutex::default(),
            guesses: Guesses::default(),
            waiting: Semaphore::new(LOGINS),
            looking: Semaphore::new(1),
            in_use: Mutex::default(),
            pending: Notify::new(),
        }
    }

    /// Returns the lifetime of a session.
    pub fn session_time(&self) -> Duration {
        self.session_time
    }

    /// Returns the scopes that all callers have.
    pub fn anonymous(&self) -> &[Scope] {
        &self.anonymous
    }

    /// Returns an anonymous caller with the scopes of all callers.
    pub fn nobody(&self) -> Caller {
        Caller { scopes: self.anonymous.clone(), ..Caller::nobody() }
    }

    /// Returns the caller with these credentials.
    pub async fn caller(&self, shown: Shown) -> Result<Caller, Unknown> {
        self.caller_within(shown, BELIEVED).await
    }

    /// Returns the caller with these credentials, from a check within the last `fresh`.
    async fn caller_within(&self, shown: Shown, fresh: Duration) -> Result<Caller, Unknown> {
        let now = Instant::now();
        let believed = |until: &Instant| now + BELIEVED.saturating_sub(fresh) < *until;
        let known = self.known.lock().get(&shown).filter(|(_, until)| believed(until)).map(|(proof, _)| proof.clone());
        let proof = match known {
            Some(proof) => proof,
            None => {
                let proof = self
                    .ask(move |accounts| match shown {
                        Shown::Token(hash) => accounts.token(&hash),
                        Shown::Session(hash) => accounts.session(&hash),
                    })
                    .await?
                    .ok_or(unknown(shown))?;
                self.remember(shown, proof.clone(), now);
                if self.accounts.has_pending() {
                    self.pending.notify_one();
                }
                proof
            }
        };
        if proof.expires.is_some_and(|expires| expires <= OffsetDateTime::now_utc()) {
            return Err(unknown(shown));
        }
        let mut scopes = proof.scopes;
        // A user never has fewer rights than an anonymous caller.
        scopes.extend(self.anonymous.iter().filter(|scope| !scopes.contains(scope)).cloned().collect::<Vec<_>>());
        Ok(Caller {
            user: proof.user.as_str().to_owned(),
            principal: Principal::User(proof.id),
            token: proof.token,
            scopes,
            address: None,
            trace: None,
            schedule: None,
        })
    }

    /// Returns the user of this name, if there is one, with the scopes of the user and of all callers.
    pub async fn user(&self, user: &UserName) -> Result<Option<Caller>, StoreError> {
        let name = user.clone();
        let found = self.ask(move |accounts| accounts.user(name.as_str())).await?;
        Ok(found.map(|(id, scopes)| self.named(user, Principal::User(id), scopes)))
    }

    /// Returns the user of this name, as a trusted proxy reports it. A user without an account has only the scopes of
    /// all callers.
    pub async fn forwarded(&self, user: &UserName) -> Result<Caller, StoreError> {
        let known = self.user(user).await?;
        Ok(known.unwrap_or_else(|| self.named(user, Principal::Forwarded(user.as_str().into()), Vec::new())))
    }

    fn named(&self, user: &UserName, principal: Principal, mut scopes: Vec<Scope>) -> Caller {
        scopes.extend(self.anonymous.iter().filter(|scope| !scopes.contains(scope)).cloned().collect::<Vec<_>>());
        Caller { user: user.as_str().to_owned(), principal, scopes, ..Caller::nobody() }
    }

    fn remember(&self, shown: Shown, proof: Proof, now: Instant) {
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED {
            known.retain(|_, (_, until)| now < *until);
            if known.len() >= REMEMBERED {
                known.clear();
            }
        }
        known.insert(shown, (proof, now + BELIEVED));
    }

    /// Clears the cache of credentials.
    pub fn forget(&self) {
        self.known.lock().clear();
    }

    /// Begins a session if `password` is the password of `user`.
    pub async fn log_in(&self, address: IpAddr, user: &str, password: String) -> Result<Secret, NoEntry> {
        let _waiting = self.waiting.try_acquire().map_err(|_| NoEntry::Busy)?;
        let attempt = self.guesses.begin(address, user, Instant::now()).map_err(NoEntry::Wait)?;
        let looking = self.looking.acquire().await;
        let name = user.parse::<UserName>();
        let guessed = name.map_or_else(|_| String::new(), |name| name.as_str().to_owned());
        let verified = self.ask(move |accounts| accounts.verify(&guessed, &password)).await?;
        drop(looking);
        let Some(user) = verified else {
            tracing::info!(%address, "login failed: wrong user or password");
            return Err(NoEntry::Wrong);
        };
        self.guesses.right(&attempt);
        let lasts = time::Duration::try_from(self.session_time).unwrap_or(time::Duration::MAX);
        let secret = self.accounts.begin_session(&user, lasts)?;
        self.pending.notify_one();
        Ok(secret)
    }

    /// Ends a session, if there is one.
    pub async fn log_out(&self, session: Hash) -> Result<(), StoreError> {
        self.ask(move |accounts| accounts.end_session(&session)).await?;
        self.forget();
        Ok(())
    }

    /// Writes new sessions and uses of tokens for as long as it is polled. Callers that present them do not wait.
    pub async fn keep_writing(&self) {
        let mut failing = false;
        loop {
            self.pending.notified().await;
            tokio::time::sleep(GATHER).await;
            while let Err(error) = self.ask(Accounts::write_pending).await {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "cannot write sessions and uses of tokens; retrying");
                }
                tokio::time::sleep(RETRY).await;
            }
            if std::mem::take(&mut failing) {
                tracing::info!("sessions and uses of tokens are written again after failures");
            }
        }
    }

    /// Queries the accounts, on a thread that is allowed to block.
    pub async fn ask<T: Send + 'static>(&self, ask: impl FnOnce(&Accounts) -> T + Send + 'static) -> T {
        let accounts = self.accounts.clone();
        blocking(move || ask(&accounts)).await
    }
}

fn unknown(shown: Shown) -> Unknown {
    match shown {
        Shown::Token(_) => Unknown::Token,
        Shown::Session(_) => Unknown::Session,
    }
}
