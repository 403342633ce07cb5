//! Rate limit for password guesses, by address and by user: each miss makes the next try wait longer.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Maximum number of addresses and users that are remembered.
const REMEMBERED: usize = 10_000;
/// Time without a try after which all misses are forgiven.
const FORGIVEN: Duration = Duration::from_secs(15 * 60);
/// Free misses of one user, and the longest wait. The wait is short, as the guesses are not the user's doing.
const OF_USER: (u32, Duration) = (5, Duration::from_secs(30));
/// Free misses of one address, and the longest wait. Many users can share the address of one proxy.
const OF_ADDRESS: (u32, Duration) = (20, Duration::from_secs(60));

#[derive(Default)]
pub struct Guesses {
    tries: Mutex<HashMap<Who, Tries>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Address(IpAddr),
    /// A hash, so that the length of an invented name does not matter.
    User(u64),
}

struct Tries {
    missed: u32,
    last: Instant,
    next: Instant,
}

/// A try that counts as a miss until [`Guesses::right`] is called.
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
    /// Begins a try at the password of `user` from `address`. Fails with the time that the client has to wait.
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

    /// Reports that the password was right.
    pub fn right(&self, right: &Try) {
        let mut tries = self.tries.lock();
        for who in right.0 {
            match who {
                Who::User(_) => drop(tries.remove(&who)),
                Who::Address(_) => {
                    if let Some(one) = tries.get_mut(&who) {
                        // A right password does not forgive guesses at other users' passwords.
                        one.missed = one.missed.saturating_sub(1);
                        one.next = one.last;
                    }
                }
            }
        }
    }
}

/// Makes room: removes forgiven entries, or if there are none, the half with the shortest waits.
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

/// Returns the network of an address: one client can have all its addresses.
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
    fn each_miss_beyond_the_free_ones_doubles_the_wait() {
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
    fn address_that_guesses_at_many_users_waits_too() {
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
    fn right_password_and_time_forgive_misses() {
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
    fn number_of_remembered_entries_is_bounded() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for user in 0..REMEMBERED as u32 * 2 {
            let from = IpAddr::from(Ipv4Addr::from_bits(user));
            assert!(guesses.begin(from, &user.to_string(), now).is_ok());
            assert!(guesses.tries.lock().len() <= REMEMBERED);
        }
    }
}
