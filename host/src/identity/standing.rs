//! Whether a credential is still valid, for what stays open longer than a request: sockets and streams of events.

use super::{BELIEVED, Identity, Shown, Unknown};
use crate::{
    auth::{Caller, UserName},
    store::accounts::AccountError,
};
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How often a credential in use is looked at. What one look finds is believed for as long, so that a revoked credential
/// is noticed within [`BELIEVED`].
const LOOK: Duration = Duration::from_millis(BELIEVED.as_millis() as u64 / 2);

/// What a caller is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    Shown(Shown),
    /// The word of a trusted proxy.
    Forwarded(UserName),
}

/// A credential in use: it is looked at until the last clone of this is dropped.
#[derive(Clone)]
pub struct Standing(Arc<Watched>);

pub(super) struct Watched {
    /// What it was good for when it began to be used.
    caller: Caller,
    revoked: CancellationToken,
}

/// The credentials that are in use.
pub(super) type InUse = HashMap<Credential, Weak<Watched>>;

impl Standing {
    /// Cancelled when the credential is revoked or has expired, its user is removed, or it lost a right.
    pub fn revoked(&self) -> &CancellationToken {
        &self.0.revoked
    }
}

impl Identity {
    /// Watches a credential that has just been found to stand for `caller`.
    pub fn watch(self: &Arc<Self>, credential: Credential, caller: &Caller) -> Standing {
        let mut in_use = self.in_use.lock();
        let known = in_use.get(&credential).and_then(Weak::upgrade);
        if let Some(watched) = known.filter(|it| !it.revoked.is_cancelled() && it.caller.scopes == caller.scopes) {
            return Standing(watched);
        }
        let watched = Arc::new(Watched { caller: caller.clone(), revoked: CancellationToken::new() });
        in_use.insert(credential.clone(), Arc::downgrade(&watched));
        drop(in_use);
        tokio::spawn(self.clone().look_on(credential, Arc::downgrade(&watched)));
        Standing(watched)
    }

    /// Looks at a credential until it is revoked or no longer in use.
    async fn look_on(self: Arc<Self>, credential: Credential, watched: Weak<Watched>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if watched.strong_count() == 0 {
                break;
            }
            let Ok(now) = self.stands_for(&credential).await else { continue };
            let Some(watched) = watched.upgrade() else { break };
            if !now.is_some_and(|now| covers(&now, &watched.caller)) {
                watched.revoked.cancel();
                break;
            }
        }
        let mut in_use = self.in_use.lock();
        // Another one may have taken its place.
        if in_use.get(&credential).is_some_and(|it| it.ptr_eq(&watched)) {
            in_use.remove(&credential);
        }
    }

    /// The caller that a credential stands for now, if any. An error says that it cannot be looked up at the moment.
    async fn stands_for(&self, credential: &Credential) -> Result<Option<Caller>, AccountError> {
        match credential {
            Credential::Shown(shown) => match self.caller_within(*shown, LOOK).await {
                Ok(caller) => Ok(Some(caller)),
                Err(Unknown::Token | Unknown::Session) => Ok(None),
                Err(Unknown::Account(error)) => Err(error),
            },
            Credential::Forwarded(user) => Ok(Some(self.forwarded(user).await?)),
        }
    }
}

/// Returns whether a caller is still the one that it was, and holds every right that it held.
fn covers(now: &Caller, then: &Caller) -> bool {
    now.principal == then.principal && then.scopes.iter().all(|scope| now.scopes.contains(scope))
}
