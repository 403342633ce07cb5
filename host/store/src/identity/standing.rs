//! Revocation checks for credentials of long-lived connections: sockets and streams of events.

use super::{BELIEVED, Identity, Shown, Unknown};
use crate::accounts::AccountError;
use distillery_core::auth::{Caller, UserName};
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Interval between checks of a credential in use. The result is cached as long, so a revocation is noticed within
/// [`BELIEVED`].
const LOOK: Duration = Duration::from_millis(BELIEVED.as_millis() as u64 / 2);

/// The credential of a caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    Shown(Shown),
    /// A user name from a trusted proxy.
    Forwarded(UserName),
}

/// A credential in use. It is checked until the last clone of this handle is dropped.
#[derive(Clone)]
pub struct Standing(Arc<Watched>);

pub(super) struct Watched {
    /// The caller when the connection began.
    caller: Caller,
    revoked: CancellationToken,
}

/// Credentials that are in use.
pub(super) type InUse = HashMap<Credential, Weak<Watched>>;

impl Standing {
    /// Returns a token that is cancelled when the credential is revoked or expires, its user is removed, or it loses a
    /// right.
    pub fn revoked(&self) -> &CancellationToken {
        &self.0.revoked
    }
}

impl Identity {
    /// Watches a credential that has just been verified as that of `caller`.
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

    /// Checks a credential until it is revoked or no longer in use.
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
        // Another watch can have replaced this one.
        if in_use.get(&credential).is_some_and(|it| it.ptr_eq(&watched)) {
            in_use.remove(&credential);
        }
    }

    /// Returns the present caller for a credential, if any. An error means that the check is not possible at the
    /// moment.
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

/// Returns whether a caller still has the same identity, and every right that it had.
fn covers(now: &Caller, then: &Caller) -> bool {
    now.principal == then.principal && then.scopes.iter().all(|scope| now.scopes.contains(scope))
}
