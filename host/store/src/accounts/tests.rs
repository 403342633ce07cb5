//! Tests of accounts, tokens and sessions together.

use super::*;
use tempfile::TempDir;
use time::Duration;

fn accounts() -> (TempDir, Accounts) {
    let directory = tempfile::tempdir().unwrap();
    let accounts = Accounts::open(&Database::open(directory.path()).unwrap()).unwrap();
    (directory, accounts)
}

fn name(name: &str) -> UserName {
    name.parse().unwrap()
}

fn verified(accounts: &Accounts) -> Verified {
    accounts.verify("ada", "correct horse").unwrap().unwrap()
}

fn scopes(list: &[&str]) -> Vec<Scope> {
    list.iter().map(|it| it.parse().unwrap()).collect()
}

fn new(user: &str, list: &[&str], expires: Option<OffsetDateTime>) -> NewToken {
    let user = TokenUser::Name(user.into());
    NewToken { user, label: "laptop".into(), scopes: scopes(list), expires, parent: None }
}

#[test]
fn password_is_verified_and_stored_only_as_a_hash() {
    let (directory, accounts) = accounts();
    accounts.add_user(&name("ada"), Some("correct horse"), &[]).unwrap();
    accounts.add_user(&name("robot"), None, &[]).unwrap();
    let knows = |user: &str, password: &str| accounts.verify(user, password).unwrap().is_some();
    assert!(knows("ada", "correct horse"));
    for (user, password) in [("ada", "wrong horse"), ("ada", ""), ("bob", "correct horse"), ("robot", "")] {
        assert!(!knows(user, password), "{user} {password:?}");
    }
    accounts.set_password("ada", "another horse").unwrap();
    assert!(!knows("ada", "correct horse") && knows("ada", "another horse"));
    drop(accounts);
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(5).any(|part| part == b"horse"));
    }
}

#[test]
fn guess_at_an_unknown_user_costs_as_much_as_at_a_user() {
    assert!(!argon2::verify_encoded(NOBODYS, b"anything").unwrap());
    let settings = |hash: &str| hash.split('$').skip(1).take(3).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(settings(NOBODYS), settings(&hashed("anything").unwrap()));
}

#[test]
fn user_exists_once_and_is_removed_with_all_credentials() {
    let (_directory, accounts) = accounts();
    assert!(!accounts.has_users().unwrap());
    accounts.add_user(&name("ada"), Some("correct horse"), &scopes(&["call:*"])).unwrap();
    let again = accounts.add_user(&name("ada"), None, &[]).unwrap_err().to_string();
    assert!(again.starts_with("there is a user \"ada\" already: "), "{again}");
    assert!(matches!(accounts.set_password("bob", "long enough"), Err(AccountError::NoUser(_))));
    assert!(matches!(accounts.set_password("ada", "short"), Err(AccountError::BadPassword)));
    let (_, token) = accounts.add_token(&new("ada", &["call:*"], None)).unwrap();
    let session = accounts.begin_session(&verified(&accounts), Duration::HOUR).unwrap();
    accounts.write_pending().unwrap();
    let [user] = &accounts.users().unwrap()[..] else { panic!() };
    assert_eq!((user.scopes.as_slice(), user.password, user.tokens), (&*scopes(&["call:*"]), true, 1));
    accounts.remove_user("ada").unwrap();
    assert_eq!(accounts.token(&Hash::of(token.as_str())).unwrap(), None);
    assert_eq!(accounts.session(&Hash::of(session.as_str())).unwrap(), None);
    assert!(accounts.tokens(None).unwrap().is_empty());
    assert!(matches!(accounts.remove_user("ada"), Err(AccountError::NoUser(_))));
}

#[test]
fn namesake_of_a_removed_user_inherits_nothing() {
    let (_directory, accounts) = accounts();
    let add = || accounts.add_user(&name("ada"), Some("correct horse"), &scopes(&["call:*"])).unwrap();
    let id = || accounts.user("ada").unwrap().unwrap().0;
    add();
    let (before, old) = (id(), verified(&accounts));
    let pending = accounts.begin_session(&old, Duration::HOUR).unwrap();
    accounts.remove_user("ada").unwrap();
    add();
    assert_ne!(before, id());
    // Begun before the removal, with a password that was checked before it.
    let late = accounts.begin_session(&old, Duration::HOUR).unwrap();
    for write in [false, true] {
        if write {
            accounts.write_pending().unwrap();
        }
        for session in [&pending, &late] {
            assert_eq!(accounts.session(&Hash::of(session.as_str())).unwrap(), None);
        }
    }
    let new = NewToken { user: TokenUser::Id(before.clone()), ..new("ada", &[], None) };
    assert!(matches!(accounts.add_token(&new), Err(AccountError::NoUser(_))));
    let (token, _) = accounts.add_token(&NewToken { user: TokenUser::Id(id()), ..new }).unwrap();
    assert_eq!(accounts.tokens(Some(&TokenUser::Id(before.clone()))).unwrap(), []);
    assert!(!accounts.revoke(&token.id, Some(&before)).unwrap());
}

#[test]
fn token_never_has_more_rights_than_its_user() {
    let (_directory, accounts) = accounts();
    accounts.add_user(&name("ada"), None, &scopes(&["call:echo", "call:pro*", "news:write"])).unwrap();
    let (token, secret) = accounts.add_token(&new("ada", &["call:*"], None)).unwrap();
    assert!(secret.as_str().starts_with(TOKEN_PREFIX) && secret.as_str().len() == 68);
    assert_eq!(format!("{secret:?}"), "Secret(..)");
    let now = |accounts: &Accounts| accounts.token(&Hash::of(secret.as_str())).unwrap().unwrap().scopes;
    assert_eq!(now(&accounts), scopes(&["call:echo", "call:pro*"]));
    accounts.set_scopes("ada", &scopes(&["call:provision"])).unwrap();
    assert_eq!(now(&accounts), scopes(&["call:provision"]));
    let error = accounts.add_token(&new("ada", &["news:write"], None)).unwrap_err();
    assert_eq!(error.to_string(), "the user \"ada\" does not hold news:write: no token of theirs can");
    let of = |name: &str| accounts.tokens(Some(&TokenUser::Name(name.into()))).unwrap();
    assert!(of("ada")[0].used.is_some() && of("bob").is_empty());
    accounts.add_user(&name("bob"), None, &[]).unwrap();
    let id = |name: &str| accounts.user(name).unwrap().unwrap().0;
    assert!(!accounts.revoke(&token.id, Some(&id("bob"))).unwrap());
    assert!(accounts.revoke(&token.id, Some(&id("ada"))).unwrap());
    assert_eq!(accounts.token(&Hash::of(secret.as_str())).unwrap(), None);
}

#[test]
fn expired_credentials_are_invalid() {
    let (_directory, accounts) = accounts();
    accounts.add_user(&name("ada"), Some("correct horse"), &[]).unwrap();
    let past = OffsetDateTime::now_utc() - Duration::SECOND;
    let (_, old) = accounts.add_token(&new("ada", &[], Some(past))).unwrap();
    let (_, good) = accounts.add_token(&new("ada", &[], Some(past + Duration::HOUR))).unwrap();
    assert_eq!(accounts.token(&Hash::of(old.as_str())).unwrap(), None);
    assert_eq!(accounts.token(&Hash::of(good.as_str())).unwrap().unwrap().user, name("ada"));
    let user = verified(&accounts);
    let over = accounts.begin_session(&user, Duration::ZERO).unwrap();
    assert_eq!(accounts.session(&Hash::of(over.as_str())).unwrap(), None);
    let session = |secret: &Secret| accounts.session(&Hash::of(secret.as_str())).unwrap();
    for write in [false, true] {
        let secret = accounts.begin_session(&user, Duration::HOUR).unwrap();
        if write {
            accounts.write_pending().unwrap();
        }
        assert_eq!(session(&secret).unwrap().user, name("ada"));
        accounts.end_session(&Hash::of(secret.as_str())).unwrap();
        accounts.write_pending().unwrap();
        assert_eq!(session(&secret), None);
    }
    let left = accounts.begin_session(&user, Duration::HOUR).unwrap();
    accounts.set_password("ada", "another horse").unwrap();
    assert_eq!(session(&left), None, "a new password ends what was not written yet, too");
}

#[test]
fn child_token_never_outlives_or_exceeds_its_parent() {
    let (_directory, accounts) = accounts();
    accounts.add_user(&name("ada"), None, &scopes(&["*"])).unwrap();
    let soon = moment(now() + 60);
    let (parent, secret) = accounts.add_token(&new("ada", &["tokens:write", "call:a*"], Some(soon))).unwrap();
    let of = |parent: &Token| Some(Arc::from(parent.id.as_str()));
    let hour = Some(soon + Duration::HOUR);
    let mut last = parent.clone();
    for asked in [None, hour, Some(soon - Duration::SECOND)] {
        let child = NewToken { parent: of(&last), ..new("ada", &["*"], asked) };
        let (child, secret) = accounts.add_token(&child).unwrap();
        assert_eq!(child.expires, asked.min(Some(soon)).or(Some(soon)), "{asked:?}");
        let shown = accounts.token(&Hash::of(secret.as_str())).unwrap().unwrap();
        assert_eq!((shown.scopes, child.parent.clone()), (parent.scopes.clone(), Some(last.id.clone())));
        last = child;
    }
    // Revoking the first token of the chain revokes all of it, and a revoked token makes no more.
    assert!(accounts.revoke(&parent.id, None).unwrap());
    assert_eq!(accounts.tokens(None).unwrap(), []);
    assert_eq!(accounts.token(&Hash::of(secret.as_str())).unwrap(), None);
    let orphan = accounts.add_token(&NewToken { parent: of(&parent), ..new("ada", &["*"], None) });
    assert!(matches!(orphan, Err(AccountError::NoParent)));
    let past = accounts.add_token(&new("ada", &["*"], Some(moment(now())))).unwrap().0;
    let late = accounts.add_token(&NewToken { parent: of(&past), ..new("ada", &["*"], None) });
    assert!(matches!(late, Err(AccountError::NoParent)));
}

#[test]
fn checks_never_wait_for_the_write_of_another_process() {
    let (directory, accounts) = accounts();
    accounts.add_user(&name("ada"), Some("correct horse"), &scopes(&["call:*"])).unwrap();
    let (_, token) = accounts.add_token(&new("ada", &["call:*"], None)).unwrap();
    let other = Database::open(directory.path()).unwrap().connect().unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // While the lock is held, no write succeeds: an operation that returns here waits for none.
    let user = verified(&accounts);
    let session = accounts.begin_session(&user, Duration::HOUR).unwrap();
    for _ in 0..2 {
        assert!(accounts.token(&Hash::of(token.as_str())).unwrap().is_some());
        assert!(accounts.session(&Hash::of(session.as_str())).unwrap().is_some());
    }
    assert!(accounts.users().unwrap().len() == 1 && accounts.tokens(None).unwrap()[0].used.is_some());
    assert!(accounts.has_pending());
    other.execute_batch("COMMIT").unwrap();
    accounts.write_pending().unwrap();
    assert!(!accounts.has_pending());
    let again = Accounts::open(&Database::open(directory.path()).unwrap()).unwrap();
    assert!(again.session(&Hash::of(session.as_str())).unwrap().is_some());
    assert!(again.tokens(None).unwrap()[0].used.is_some());
}
