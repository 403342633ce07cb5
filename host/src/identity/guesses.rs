//! How often passwords were guessed, by address and by user: each miss makes the next try wait for longer.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// How many addresses and users are remembered at once.
const REMEMBERED: usize = 10_000;
/// After so long without a try everything is forgiven.
const FORGIVEN: Duration = Duration::from_secs(15 * 60);
/// How many misses of one user cost nothing, and how long one waits at most. Not long: it is not the user's doing.
const OF_USER: (u32, Duration) = (5, Duration::from_secs(30));
/// The same for an address, which may be that of many: all who come through one proxy.
const OF_ADDRESS: (u32, Duration) = (20, Duration::from_secs(60));

#[derive(Default)]
pub struct Guesses {
    tries: Mutex<HashMap<Who, Tries>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Address(IpAddr),
    /// By a hash, so that it does not matter how long a name somebody makes up.
    User(u64),
}

struct Tries {
    missed: u32,
    last: Instant,
    next: Instant,
}

/// A try that counts as a miss until it is told otherwise.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Try([Who; 2]);

impl std::fmt::Debug for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Address(_) => "Address(..)",
            Self::User(_) => "User(..)",
        })
    }
}

impl Who {
    fn free_and_longest(self) -> (u32, Duration) {
        match self {
            Self::Address(_) => OF_ADDRESS,
            Self::User(_) => OF_USER,
        }
    }
}

impl Guesses {
    /// A try at the password of `user` from `address`, or how long it has to wait.
    pub fn begin(&self, address: IpAddr, user: &str, now: Instant) -> Result<Try, Duration> {
        let mut hasher = DefaultHasher::new();
        user.hash(&mut hasher);
        let both = [Who::Address(network(address)), Who::User(hasher.finish())];
        let mut tries = self.tries.lock();
        let wait = both.iter().filter_map(|who| tries.get(who)?.next.checked_duration_since(now)).max();
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        for who in both {
            if tries.len() >= REMEMBERED && !tries.contains_key(&who) {
                forget(&mut tries, now);
            }
            let one = tries.entry(who).or_insert(Tries { missed: 0, last: now, next: now });
            if now.saturating_duration_since(one.last) >= FORGIVEN {
                one.missed = 0;
            }
            one.missed += 1;
            one.last = now;
            let (free, longest) = who.free_and_longest();
            if one.missed >= free {
                one.next = now + Duration::from_secs(1 << (one.missed - free).min(10)).min(longest);
            }
        }
        Ok(Try(both))
    }

    /// It was no guess.
    pub fn right(&self, right: &Try) {
        let mut tries = self.tries.lock();
        for who in right.0 {
            match who {
                Who::User(_) => drop(tries.remove(&who)),
                Who::Address(_) => {
                    if let Some(one) = tries.get_mut(&who) {
                        // One's own password forgives no guesses at that of others.
                        one.missed = one.missed.saturating_sub(1);
                        one.next = one.last;
                    }
                }
            }
        }
    }
}

/// Makes room: those that are forgiven go, and if there are none, half of those that may try again the soonest.
fn forget(tries: &mut HashMap<Who, Tries>, now: Instant) {
    tries.retain(|_, one| now.saturating_duration_since(one.last) < FORGIVEN);
    if tries.len() >= REMEMBERED {
        let mut next: Vec<_> = tries.values().map(|one| one.next).collect();
        next.sort_unstable();
        let middle = next[next.len() / 2];
        let mut spare = REMEMBERED / 2;
        tries.retain(|_, one| {
            let kept = one.next > middle || spare == 0;
            spare -= usize::from(!kept);
            kept
        });
    }
}

/// The network that one client may have all addresses of.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(it) => Ipv6Addr::from_bits(it.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    #[test]
    fn each_miss_beyond_the_free_ones_waits_for_twice_as_long_up_to_a_bound() {
        let (guesses, mut now) = (Guesses::default(), Instant::now());
        for from in 0..4 {
            assert!(guesses.begin(address(from), "ada", now).is_ok());
        }
        let mut waits = Vec::new();
        for from in 4..12 {
            assert!(guesses.begin(address(from), "ada", now).is_ok());
            let wait = guesses.begin(address(99), "ada", now).unwrap_err();
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert!(guesses.begin(address(99), "bob", now).is_ok());
    }

    #[test]
    fn an_address_that_guesses_at_many_users_waits_too() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for user in 0..OF_ADDRESS.0 {
            assert!(guesses.begin(address(1), &user.to_string(), now).is_ok());
        }
        assert!(guesses.begin(address(1), "one more", now).is_err());
        assert!(guesses.begin(address(2), "one more", now).is_ok());
        let v6 = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        for user in 0..OF_ADDRESS.0 {
            assert!(guesses.begin(v6(user as u16), &format!("v6 {user}"), now).is_ok());
        }
        assert!(guesses.begin(v6(999), "another", now).is_err());
    }

    #[test]
    fn the_right_password_forgives_its_user_and_time_forgives_everyone() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for _ in 0..OF_USER.0 - 1 {
            assert!(guesses.begin(address(1), "ada", now).is_ok());
        }
        let right = guesses.begin(address(1), "ada", now).unwrap();
        guesses.right(&right);
        for _ in 0..OF_USER.0 {
            assert!(guesses.begin(address(1), "ada", now).is_ok());
        }
        assert!(guesses.begin(address(1), "ada", now).is_err());
        let later = now + FORGIVEN;
        for _ in 0..OF_USER.0 {
            assert!(guesses.begin(address(1), "ada", later).is_ok());
        }
    }

    #[test]
    fn however_many_are_guessed_at_only_so_many_are_remembered() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for user in 0..REMEMBERED as u32 * 2 {
            let from = IpAddr::from(Ipv4Addr::from_bits(user));
            assert!(guesses.begin(from, &user.to_string(), now).is_ok());
            assert!(guesses.tries.lock().len() <= REMEMBERED);
        }
    }
}
