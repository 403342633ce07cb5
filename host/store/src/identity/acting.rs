//! The callers that the server acts for by itself, without a request of theirs.

use crate::{accounts::AccountError, database::StoreError};
use distillery_config::RunAs;
use distillery_core::{
    auth::{Caller, Scope},
    principal::{Principal, UserId},
};

/// Returns the caller with the present rights of a user, or the operator. A user must have an account, which `find`
/// looks up by name. All callers have the scopes `anonymous`.
pub fn acting(
    user: &RunAs,
    anonymous: &[Scope],
    find: impl FnOnce(&str) -> Result<Option<(UserId, Vec<Scope>)>, StoreError>,
) -> Result<Caller, AccountError> {
    let name = match user {
        RunAs::Operator => return Ok(Caller::operator()),
        RunAs::User(name) => name.as_str(),
    };
    let (id, mut scopes) = find(name)?.ok_or_else(|| AccountError::NoUser(name.to_owned()))?;
    let more: Vec<_> = anonymous.iter().filter(|scope| !scopes.contains(scope)).cloned().collect();
    scopes.extend(more);
    Ok(Caller { user: name.to_owned(), principal: Principal::User(id), scopes, ..Caller::nobody() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_user_never_becomes_a_caller() {
        let scopes = |text: &str| vec![text.parse::<Scope>().unwrap()];
        let ada = RunAs::User("ada".parse().unwrap());
        let id = UserId::known("1".into());
        let known = acting(&ada, &scopes("call:b"), |_| Ok(Some((id.clone(), scopes("call:a"))))).unwrap();
        assert_eq!((known.user.as_str(), known.principal), ("ada", Principal::User(id)));
        assert_eq!(known.scopes, [scopes("call:a"), scopes("call:b")].concat());
        let unknown = acting(&ada, &scopes("*"), |_| Ok(None)).unwrap_err();
        assert!(unknown.to_string().starts_with("there is no user \"ada\""), "{unknown}");
        let operator = acting(&RunAs::Operator, &[], |_| unreachable!("the operator has no account")).unwrap();
        assert_eq!(operator, Caller::operator());
    }
}
