//! Which snapshots of an instance are kept: the newest ones, and the newest of each day, week and month.

use crate::moment::Moment;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub last: usize,
    /// Numbers of days, weeks and months with a snapshot.
    pub daily: usize,
    pub weekly: usize,
    pub monthly: usize,
}

/// Returns the number of the period that a time is in.
type Period = fn(Moment) -> Option<i64>;

impl Retention {
    /// Splits snapshots into those to keep and those to remove, both newest first. The newest is always kept.
    pub fn split<'a>(&self, snapshots: &'a [(Moment, String)]) -> (Vec<&'a str>, Vec<&'a str>) {
        let mut all: Vec<_> = snapshots.iter().collect();
        all.sort_by(|a, b| b.cmp(a));
        let mut kept: BTreeSet<usize> = (0..self.last.max(1).min(all.len())).collect();
        let rules: [(usize, Period); 3] =
            [(self.daily, Moment::day), (self.weekly, Moment::week), (self.monthly, Moment::month)];
        for (count, period) in rules {
            let mut seen = BTreeSet::new();
            for (index, (at, _)) in all.iter().enumerate() {
                let Some(period) = period(*at) else { continue };
                if seen.len() < count && seen.insert(period) {
                    kept.insert(index);
                }
            }
        }
        let (mut keep, mut drop) = (Vec::new(), Vec::new());
        for (index, (_, name)) in all.into_iter().enumerate() {
            if kept.contains(&index) { keep.push(name.as_str()) } else { drop.push(name.as_str()) }
        }
        (keep, drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1000;

    /// Returns a snapshot for each of `days`, counted from 2026-01-31 backwards.
    fn snapshots(days: impl Iterator<Item = u64>) -> Vec<(Moment, String)> {
        days.map(|day| (Moment(1_769_860_800_000 - day * DAY), format!("{day}"))).collect()
    }

    #[test]
    fn newest_of_each_period_is_kept() {
        let all = snapshots(0..90);
        let (kept, removed) = Retention { last: 2, daily: 3, weekly: 2, monthly: 3 }.split(&all);
        // 2026-01-31 is a Saturday; 6 days before it is the end of the week before; 31 and 62 days before it months end.
        assert_eq!(kept, ["0", "1", "2", "6", "31", "62"]);
        assert_eq!(kept.len() + removed.len(), 90);
    }

    #[test]
    fn newest_snapshot_is_always_kept() {
        let nothing = Retention { last: 0, daily: 0, weekly: 0, monthly: 0 };
        assert_eq!(nothing.split(&snapshots(0..3)), (vec!["0"], vec!["1", "2"]));
        assert_eq!(nothing.split(&[]), (vec![], vec![]));
    }

    #[test]
    fn period_without_a_snapshot_does_not_count() {
        let all = snapshots([0, 10, 20].into_iter());
        let daily = Retention { last: 1, daily: 2, weekly: 0, monthly: 0 };
        assert_eq!(daily.split(&all), (vec!["0", "10"], vec!["20"]));
    }
}
