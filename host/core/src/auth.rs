//! Authentication and authorization: the caller of a request, and what the caller is allowed to do.
//!
//! Every path (socket, list, history, docs) asks the one function here.

use crate::{
    call::{CALL_NAME_PATTERN, CallName},
    principal::Principal,
    trace::TraceContext,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr, sync::Arc};

/// The client at the other end of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The user's name, for display only. Empty for an anonymous caller.
    pub user: String,
    pub principal: Principal,
    /// The id of the API token that the caller presented, if any.
    pub token: Option<Arc<str>>,
    pub scopes: Vec<Scope>,
    /// The address that the request comes from.
    pub address: Option<IpAddr>,
    /// The trace of the request, if it is traced.
    pub trace: Option<TraceContext>,
    /// The schedule that makes the request for the caller, if any.
    pub schedule: Option<Arc<str>>,
}

/// The unit by which callers are counted: a user, or the address of an anonymous caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    User(Principal),
    Address(Option<IpAddr>),
}

/// Returns the address by which a client is counted. For IPv6 it is the network: a client with one address there has
/// 2^64 of them.
pub fn client_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

impl Caller {
    /// Returns an anonymous caller with no rights.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Returns the operator: a caller that can use the server's own files and is allowed everything.
    pub fn operator() -> Self {
        Self {
            user: "operator".into(),
            principal: Principal::Operator,
            scopes: vec![Scope("*".into())],
            ..Self::nobody()
        }
    }

    /// Returns the unit by which the caller is counted.
    pub fn who(&self) -> Who {
        match &self.principal {
            Principal::Anonymous => Who::Address(self.address.map(client_address)),
            principal => Who::User(principal.clone()),
        }
    }
}

/// The name of a user: 1 to 64 of `a-z A-Z 0-9 . _ @ -`, beginning with a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(Arc<str>);

/// Names that `distillery auth can-i` and the log use for callers that are not users.
const NO_USERS: [&str; 2] = ["nobody", "operator"];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUserName {
    #[error(
        "{0:?} is not a name for a user: use 1 to 64 letters, digits or any of . _ @ -, beginning with a letter or a digit"
    )]
    Form(String),
    #[error("{0:?} has a meaning of its own here: choose another name")]
    Taken(String),
}

impl UserName {
    /// Wraps a name that was checked when it was stored.
    pub fn known(name: String) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = BadUserName;

    fn from_str(name: &str) -> Result<Self, BadUserName> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '@' | '-');
        let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !begins || name.len() > 64 || !name.chars().all(plain) {
            return Err(BadUserName::Form(name.to_owned()));
        }
        if NO_USERS.iter().any(|taken| taken.eq_ignore_ascii_case(name)) {
            return Err(BadUserName::Taken(name.to_owned()));
        }
        Ok(Self(name.into()))
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A right that a caller can hold: an exact name such as `call:echo`, or a prefix ending in `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(pub String);

/// Every scope except those of calls.
const SCOPES: [&str; 7] =
    ["systems:write", "news:write", "tokens:write", "plugins:read", "plugins:write", "schedules:read", "processes:*"];

/// A text that is not a scope.
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

/// The schema of exactly the texts that parse as a scope.
impl JsonSchema for Scope {
    fn schema_name() -> Cow<'static, str> {
        "Scope".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let name = CALL_NAME_PATTERN.trim_start_matches('^').trim_end_matches('$');
        let beginnings = |scope: &'static str| (0..=scope.len()).map(move |most| format!("{}*", &scope[..most]));
        let mut beginnings: Vec<_> = SCOPES.into_iter().chain(["call:"]).flat_map(beginnings).collect();
        beginnings.retain(|it| !SCOPES.contains(&it.as_str()));
        beginnings.sort();
        beginnings.dedup();
        json_schema!({
            "description": "What a caller may do: one thing, or all whose names begin with what stands before a *.",
            "type": "string",
            "examples": ["call:echo", "call:*", "systems:write"],
            "anyOf": [
                {"pattern": format!(r"^call:{name}\*?$")},
                {"enum": SCOPES},
                {"enum": beginnings},
            ],
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scope {
    /// Returns all scopes. A token with them has every right that its user has.
    pub fn all() -> Self {
        Self("*".into())
    }

    /// Returns the parts of this scope that are also in one of `held`.
    pub fn within(&self, held: &[Self]) -> Vec<Self> {
        let both = |other: &Self| {
            // All that a scope covers begins with its prefix, so of two scopes that overlap one contains the other.
            let inside = |outer: &Self, inner: &Self| match outer.0.strip_suffix('*') {
                Some(prefix) => inner.0.trim_end_matches('*').starts_with(prefix),
                None => outer == inner,
            };
            if inside(other, self) { Some(self.clone()) } else { inside(self, other).then(|| other.clone()) }
        };
        held.iter().filter_map(both).collect()
    }

    /// Returns the scopes that are both in `some` and in `others`.
    pub fn common(some: &[Self], others: &[Self]) -> Vec<Self> {
        let mut common: Vec<Self> = Vec::new();
        for scope in some.iter().flat_map(|scope| scope.within(others)) {
            if !common.contains(&scope) {
                common.push(scope);
            }
        }
        common
    }

    fn covers(&self, needed: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => needed.starts_with(prefix),
            None => self.0 == needed,
        }
    }
}

/// The access rule of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Any caller, without credentials.
    Public,
    /// Callers that hold the scope `call:<name>`.
    #[default]
    Scoped,
}

/// An action for which a caller needs permission.
#[derive(Clone, Copy, Debug)]
pub enum Permission<'a> {
    /// Running the call, or seeing that it can be run.
    Run(&'a CallName, Access),
    /// Anything named by its scope, such as `systems:write`.
    Use(&'a str),
}

impl fmt::Display for Permission<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(name, _) => write!(f, "call:{name}"),
            Self::Use(scope) => f.write_str(scope),
        }
    }
}

/// The rule that decides whether a caller is allowed to do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule<'a> {
    /// The call is public.
    Public,
    /// The caller holds this scope.
    Held(&'a Scope),
    /// The caller holds no scope that covers this one.
    Missing(String),
}

impl Rule<'_> {
    pub fn allows(&self) -> bool {
        !matches!(self, Self::Missing(_))
    }
}

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("its plugin says access: public"),
            Self::Held(scope) => write!(f, "the scope {scope} is held"),
            Self::Missing(needed) => write!(f, "no scope is held that covers {needed}"),
        }
    }
}

/// Returns the rule that allows or denies `wish` to `caller`.
pub fn rule<'a>(caller: &'a Caller, wish: Permission<'_>) -> Rule<'a> {
    if let Permission::Run(_, Access::Public) = wish {
        return Rule::Public;
    }
    let needed = wish.to_string();
    match caller.scopes.iter().find(|scope| scope.covers(&needed)) {
        Some(scope) => Rule::Held(scope),
        None => Rule::Missing(needed),
    }
}

/// The scope that allows a caller to see and cancel the processes of all users.
pub const ALL_PROCESSES: &str = "processes:*";

/// The scope that allows a caller to see the schedules of all users.
pub const ALL_SCHEDULES: &str = "schedules:read";

/// Returns whether `caller` is allowed to see and cancel processes of `owner`. An anonymous caller owns none.
pub fn may_see(caller: &Caller, owner: &Principal) -> bool {
    let own = !owner.is_anonymous() && caller.principal == *owner;
    own || may(caller, Permission::Use(ALL_PROCESSES))
}

/// The owner of a process that other clients can attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub principal: Principal,
    /// The access key of the process, if its owner is anonymous.
    pub key: Option<String>,
}

impl Owner {
    /// Makes `caller` the owner of a new process. An anonymous owner gets a key, as all anonymous callers have the same
    /// identity.
    pub fn new(caller: &Caller) -> Self {
        let key = caller.principal.is_anonymous().then(|| {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).expect("the system has random bytes");
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        });
        Self { principal: caller.principal.clone(), key }
    }
}

/// Returns whether `caller`, with `key`, is allowed to attach to a process of `owner`, write to its input, and cancel
/// it.
pub fn may_use(caller: &Caller, owner: &Owner, key: Option<&str>) -> bool {
    let same = |key: &str, shown: &str| {
        // Constant time: the comparison takes as long however many characters match.
        key.len() == shown.len() && key.bytes().zip(shown.bytes()).fold(0, |other, (a, b)| other | (a ^ b)) == 0
    };
    may_see(caller, &owner.principal) || matches!((&owner.key, key), (Some(key), Some(shown)) if same(key, shown))
}

/// Returns whether `caller` is allowed `wish`.
pub fn may(caller: &Caller, wish: Permission<'_>) -> bool {
    rule(caller, wish).allows()
}

#[cfg(test)]
mod tests;
