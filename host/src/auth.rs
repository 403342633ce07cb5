//! Who asks, and what they may do. Every path (socket, list, history, docs) asks the one function here.

use crate::call::CallName;
use std::fmt;

/// Whoever is at the other end of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The user's name, empty for nobody.
    pub user: String,
    /// Whether the caller came with an API token rather than a session.
    pub token: bool,
    pub scopes: Vec<Scope>,
}

impl Caller {
    /// The caller that showed nothing.
    pub fn nobody() -> Self {
        Self::default()
    }
}

/// A right that a caller may hold: an exact name such as `call:echo`, or a prefix ending in `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(pub String);

impl Scope {
    fn covers(&self, needed: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => needed.starts_with(prefix),
            None => self.0 == needed,
        }
    }
}

/// Who may run a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Anyone, without logging in.
    Public,
    /// Callers that hold the scope `call:<name>`.
    #[default]
    Scoped,
}

/// What someone wants to do.
#[derive(Clone, Copy, Debug)]
pub enum Wish<'a> {
    /// Run the call, or see that it can be run.
    Run(&'a CallName, Access),
    /// Anything named by its scope, such as `systems:write`.
    Use(&'a str),
}

impl fmt::Display for Wish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(name, _) => write!(f, "call:{name}"),
            Self::Use(scope) => f.write_str(scope),
        }
    }
}

/// Whether `caller` may do what it wishes.
pub fn may(caller: &Caller, wish: Wish<'_>) -> bool {
    if let Wish::Run(_, Access::Public) = wish {
        return true;
    }
    let needed = wish.to_string();
    caller.scopes.iter().any(|scope| scope.covers(&needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_needs_its_scope_unless_it_is_public() {
        let name: CallName = "provision".parse().unwrap();
        let with = |scope: &str| Caller { scopes: vec![Scope(scope.into())], ..Caller::nobody() };
        assert!(may(&Caller::nobody(), Wish::Run(&name, Access::Public)));
        assert!(!may(&Caller::nobody(), Wish::Run(&name, Access::Scoped)));
        assert!(may(&with("call:provision"), Wish::Run(&name, Access::Scoped)));
        assert!(may(&with("call:*"), Wish::Run(&name, Access::Scoped)));
        assert!(!may(&with("call:prov"), Wish::Run(&name, Access::Scoped)));
        assert!(!may(&with("systems:write"), Wish::Use("news:write")));
    }
}
