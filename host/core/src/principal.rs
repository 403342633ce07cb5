//! Identities that own things: processes, tokens and sessions. A removed user's name can be given to another user; an
//! identity is never reused.

use std::sync::Arc;

/// The identifier of a user's account: random, and never reused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

impl UserId {
    /// Wraps an identifier from the database.
    pub fn known(id: String) -> Self {
        Self(id.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The identity of a caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A caller without credentials. All anonymous callers have this identity, so nothing belongs to one of them.
    #[default]
    Anonymous,
    /// A caller that can use the files of the server.
    Operator,
    /// A user with an account.
    User(UserId),
    /// A user without an account that a trusted proxy names. The proxy answers for the name.
    Forwarded(Arc<str>),
}

const OPERATOR: &str = "operator";
const USER: &str = "user:";
const FORWARDED: &str = "proxy:";

impl Principal {
    /// Returns the form that the database has. `None` if anonymous.
    pub fn stored(&self) -> Option<String> {
        match self {
            Self::Anonymous => None,
            Self::Operator => Some(OPERATOR.to_owned()),
            Self::User(id) => Some(format!("{USER}{}", id.as_str())),
            Self::Forwarded(name) => Some(format!("{FORWARDED}{name}")),
        }
    }

    /// Reads the form that the database has. An unknown form belongs to no caller.
    pub fn read(stored: Option<&str>) -> Self {
        let Some(stored) = stored else { return Self::Anonymous };
        if let Some(id) = stored.strip_prefix(USER) {
            return Self::User(UserId(id.into()));
        }
        match stored.strip_prefix(FORWARDED) {
            Some(name) => Self::Forwarded(name.into()),
            None if stored == OPERATOR => Self::Operator,
            None => Self::Anonymous,
        }
    }

    /// Returns whether this is the identity of callers without credentials.
    pub fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_as_they_were_stored() {
        let all = [
            Principal::Anonymous,
            Principal::Operator,
            Principal::User(UserId::known("0a1b".into())),
            Principal::Forwarded("ada".into()),
            Principal::Forwarded("user:0a1b".into()),
        ];
        for principal in &all {
            assert_eq!(Principal::read(principal.stored().as_deref()), *principal);
        }
        assert_eq!(Principal::read(Some("odd")), Principal::Anonymous);
    }
}
