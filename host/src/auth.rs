//! Who asks, and what they may do. Every path (socket, list, history, docs) asks the one function here.

use crate::call::CallName;
use std::{fmt, net::IpAddr, str::FromStr};

/// Whoever is at the other end of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The user's name, empty for nobody.
    pub user: String,
    /// Whether the caller came with an API token rather than a session.
    pub token: bool,
    pub scopes: Vec<Scope>,
    /// Where the request comes from.
    pub address: Option<IpAddr>,
}

/// Who counts as one where callers are counted: a user, and of those who did not say who they are an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    User(String),
    Address(Option<IpAddr>),
}

/// The address that a client counts by. Of IPv6 it is the network: whoever has one address there has 2^64 of them.
pub fn client_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

impl Caller {
    /// The caller that showed nothing.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Whoever may use the files of the server itself: there is nothing that it may not.
    pub fn operator() -> Self {
        Self { user: "operator".into(), scopes: vec![Scope("*".into())], ..Self::nobody() }
    }

    /// Who the caller is counted as.
    pub fn who(&self) -> Who {
        if self.user.is_empty() { Who::Address(self.address.map(client_address)) } else { Who::User(self.user.clone()) }
    }
}

/// A right that a caller may hold: an exact name such as `call:echo`, or a prefix ending in `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(pub String);

/// Every scope but those of calls.
const SCOPES: [&str; 6] =
    ["systems:write", "news:write", "tokens:write", "plugins:read", "plugins:write", "processes:*"];

/// The name of something that nothing asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a scope: write call:<name>, {list}, or the beginning of one with * behind it", list = SCOPES.join(", "))]
pub struct BadScope(String);

impl FromStr for Scope {
    type Err = BadScope;

    fn from_str(text: &str) -> Result<Self, BadScope> {
        let call = |name: &str| name.parse::<CallName>().is_ok();
        let known = match text.strip_suffix('*') {
            Some(prefix) => {
                let of_calls = "call:".starts_with(prefix) || prefix.strip_prefix("call:").is_some_and(call);
                of_calls || SCOPES.iter().any(|scope| scope.starts_with(prefix))
            }
            None => SCOPES.contains(&text) || text.strip_prefix("call:").is_some_and(call),
        };
        if known { Ok(Self(text.to_owned())) } else { Err(BadScope(text.to_owned())) }
    }
}

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
    fn callers_count_by_their_name_or_by_where_they_are() {
        let at = |address: &str| Caller { address: Some(address.parse().unwrap()), ..Caller::nobody() };
        assert_eq!(at("10.0.0.1").who(), at("::ffff:10.0.0.1").who());
        assert_ne!(at("10.0.0.1").who(), at("10.0.0.2").who());
        assert_eq!(at("2001:db8::1").who(), at("2001:db8::ffff:1").who());
        assert_ne!(at("2001:db8::1").who(), at("2001:db8:0:1::1").who());
        let named = |address| Caller { user: "ada".into(), ..at(address) };
        assert_eq!(named("10.0.0.1").who(), named("10.0.0.2").who());
    }

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

    #[test]
    fn the_operator_may_do_everything() {
        let name: CallName = "provision".parse().unwrap();
        assert!(may(&Caller::operator(), Wish::Run(&name, Access::Scoped)));
        assert!(may(&Caller::operator(), Wish::Use("plugins:write")));
    }

    #[test]
    fn a_scope_that_nothing_asks_for_is_refused() {
        for text in ["call:echo", "call:*", "call:provision*", "plugins:read", "plugins:*", "processes:*", "sys*", "*"]
        {
            assert_eq!(text.parse::<Scope>(), Ok(Scope(text.into())), "{text}");
        }
        for text in ["", "call:", "call:no name", "plugins", "plugin:*", "plugins:delete", "calls*", "call:a b*", "**"]
        {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
        assert_eq!(
            BadScope("x".into()).to_string(),
            "\"x\" is not a scope: write call:<name>, systems:write, news:write, tokens:write, plugins:read, \
             plugins:write, processes:*, or the beginning of one with * behind it"
        );
    }
}
