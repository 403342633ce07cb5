use super::*;
use crate::principal::UserId;

fn user(id: &str) -> Principal {
    Principal::User(UserId::known(id.into()))
}

#[test]
fn callers_are_counted_by_name_or_address() {
    let at = |address: &str| Caller { address: Some(address.parse().unwrap()), ..Caller::nobody() };
    assert_eq!(at("10.0.0.1").who(), at("::ffff:10.0.0.1").who());
    assert_ne!(at("10.0.0.1").who(), at("10.0.0.2").who());
    assert_eq!(at("2001:db8::1").who(), at("2001:db8::ffff:1").who());
    assert_ne!(at("2001:db8::1").who(), at("2001:db8:0:1::1").who());
    let named = |address| Caller { principal: user("1"), ..at(address) };
    assert_eq!(named("10.0.0.1").who(), named("10.0.0.2").who());
    let namesake = Caller { principal: user("2"), ..at("10.0.0.1") };
    assert_ne!(named("10.0.0.1").who(), namesake.who());
}

#[test]
fn a_call_needs_its_scope_unless_it_is_public() {
    let name: CallName = "provision".parse().unwrap();
    let with = |scope: &str| Caller { scopes: vec![Scope(scope.into())], ..Caller::nobody() };
    assert!(may(&Caller::nobody(), Permission::Run(&name, Access::Public)));
    assert!(!may(&Caller::nobody(), Permission::Run(&name, Access::Scoped)));
    assert!(may(&with("call:provision"), Permission::Run(&name, Access::Scoped)));
    assert!(may(&with("call:*"), Permission::Run(&name, Access::Scoped)));
    assert!(!may(&with("call:prov"), Permission::Run(&name, Access::Scoped)));
    assert!(!may(&with("systems:write"), Permission::Use("news:write")));
}

#[test]
fn callers_see_only_processes_of_their_own_account() {
    let caller = |id: &str, scopes: &[&str]| Caller {
        user: "ada".into(),
        principal: user(id),
        scopes: scopes.iter().map(|it| it.parse().unwrap()).collect(),
        ..Caller::nobody()
    };
    assert!(may_see(&caller("1", &[]), &user("1")));
    assert!(!may_see(&caller("2", &["call:*"]), &user("1")), "a later user of the same name");
    assert!(!may_see(&caller("1", &[]), &Principal::Forwarded("ada".into())));
    assert!(!may_see(&Caller::nobody(), &Principal::Anonymous));
    assert!(may_see(&caller("2", &["processes:*"]), &user("1")));
    assert!(may_see(&Caller::operator(), &Principal::Anonymous));
}

#[test]
fn key_opens_a_process_without_an_owner() {
    let named = |id: &str| Caller { principal: user(id), ..Caller::nobody() };
    let (nobodys, adas) = (Owner::new(&Caller::nobody()), Owner::new(&named("ada")));
    let key = nobodys.key.as_deref();
    assert!(may_use(&Caller::nobody(), &nobodys, key) && may_use(&named("bob"), &nobodys, key));
    assert!(!may_use(&Caller::nobody(), &nobodys, None) && !may_use(&Caller::nobody(), &nobodys, Some("")));
    assert!(!may_use(&Caller::nobody(), &nobodys, Some(&"0".repeat(32))));
    assert!(may_use(&named("ada"), &adas, None) && adas.key.is_none());
    assert!(!may_use(&named("bob"), &adas, key) && !may_use(&Caller::nobody(), &adas, Some("")));
    assert_ne!(nobodys.key, Owner::new(&Caller::nobody()).key);
}

#[test]
fn intersection_of_scopes_is_the_narrower_one() {
    let list = |text: &str| text.split_whitespace().map(|it| Scope(it.into())).collect::<Vec<_>>();
    for (some, others, common) in [
        ("*", "call:echo news:write", "call:echo news:write"),
        ("call:*", "call:echo", "call:echo"),
        ("call:echo", "call:*", "call:echo"),
        ("call:a* call:ab", "call:ab*", "call:ab* call:ab"),
        ("call:echo", "call:ech", ""),
        ("call:ech*", "call:other*", ""),
        ("processes:*", "processes:*", "processes:*"),
        ("", "*", ""),
    ] {
        assert_eq!(Scope::common(&list(some), &list(others)), list(common), "{some} and {others}");
    }
}

#[test]
fn user_names_have_a_form_and_are_not_reserved() {
    for name in ["ada", "ada@example.org", "0", "a.b-c_d"] {
        assert_eq!(name.parse::<UserName>().unwrap().as_str(), name);
    }
    for name in ["", "-a", "a b", "ä", "operator", "Nobody", &"x".repeat(65)] {
        assert!(name.parse::<UserName>().is_err(), "{name:?}");
    }
}

#[test]
fn operator_is_allowed_everything() {
    let name: CallName = "provision".parse().unwrap();
    assert!(may(&Caller::operator(), Permission::Run(&name, Access::Scoped)));
    assert!(may(&Caller::operator(), Permission::Use("plugins:write")));
}

#[test]
fn unknown_scope_is_refused() {
    for text in ["call:echo", "call:*", "call:provision*", "plugins:read", "plugins:*", "processes:*", "sys*", "*"] {
        assert_eq!(text.parse::<Scope>(), Ok(Scope(text.into())), "{text}");
    }
    for text in ["", "call:", "call:no name", "plugins", "plugin:*", "plugins:delete", "calls*", "call:a b*", "**"] {
        assert!(text.parse::<Scope>().is_err(), "{text}");
    }
    assert_eq!(
        BadScope("x".into()).to_string(),
        "\"x\" is not a scope: write call:<name>, systems:write, news:write, tokens:write, plugins:read, \
             plugins:write, schedules:read, processes:*, or the beginning of one with * behind it"
    );
}
