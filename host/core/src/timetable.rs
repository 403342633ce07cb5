//! A timetable: the moments at which a cron expression is due in a time zone. Only this module names the libraries for
//! cron expressions and time zones.
//!
//! Daylight saving time: an expression with one fixed time of day is due once a day. If that time is skipped, it is due
//! at the first moment after the gap; if it is repeated, at the first of the two. All other expressions follow the
//! clock on the wall: nothing is due in a gap, and a repeated hour is due twice.

use croner::{
    CivilDateTime, Cron, CronDateTime, Resolution, Weekday,
    errors::CronError,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};
use std::{cmp::Ordering, fmt};
use time::{OffsetDateTime, UtcOffset};

/// The maximum length of an expression. The longest useful ones are lists of minutes.
const LONGEST: usize = 500;

/// A cron expression in a time zone.
#[derive(Clone, PartialEq, Eq)]
pub struct Timetable {
    expression: String,
    cron: Cron,
    zone: Zone,
}

/// A time zone of the IANA database.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTimetable {
    #[error(
        "{0:?} is not a cron expression: write minute, hour, day of month, month and day of week, such as \"30 2 * * *\""
    )]
    Expression(String),
    #[error("{0:?} is never due: no such day exists")]
    Never(String),
    #[error("{0:?} is not a time zone: write a name of the IANA database, such as Europe/Berlin or UTC")]
    Zone(String),
}

impl Zone {
    /// Finds a zone by its name, in the database of the system, or else in the one of this program.
    pub fn new(name: &str) -> Result<Self, BadTimetable> {
        let bad = || BadTimetable::Zone(name.to_owned());
        let rules = TimeZone::get(name).map_err(|_| bad())?;
        // The database has its own spelling of each name.
        let name = rules.iana_name().ok_or_else(bad)?.to_owned();
        Ok(Self { name, rules })
    }

    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), rules: TimeZone::UTC }
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timetable({self})")
    }
}

/// The expression and the zone. Two timetables with the same text are due at the same moments.
impl fmt::Display for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.expression, self.zone.name)
    }
}

impl Timetable {
    /// Parses an expression of five fields, or of six that begin with the second. Refuses one that is never due.
    pub fn new(expression: &str, zone: Zone) -> Result<Self, BadTimetable> {
        let expression = expression.split_whitespace().collect::<Vec<_>>().join(" ");
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let parsed = Some(&expression).filter(|it| it.len() <= LONGEST).and_then(|it| parser.parse(it).ok());
        let Some(cron) = parsed else { return Err(BadTimetable::Expression(expression)) };
        let timetable = Self { expression, cron, zone };
        match timetable.next_after(OffsetDateTime::UNIX_EPOCH) {
            Some(_) => Ok(timetable),
            None => Err(BadTimetable::Never(timetable.expression)),
        }
    }

    pub fn expression(&self) -> &str {
        &self.expression
    }

    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Returns the first due time after `moment`. `None` if there is none in the range of the calendar.
    pub fn next_after(&self, moment: OffsetDateTime) -> Option<OffsetDateTime> {
        let second = Timestamp::from_second(moment.unix_timestamp()).ok()?;
        let found = self.cron.find_next_occurrence(&Local { second, zone: &self.zone.rules }, false).ok()?;
        OffsetDateTime::from_unix_timestamp(found.second.as_second()).ok()
    }

    /// Returns `moment` with the offset that the zone has at that time.
    pub fn local(&self, moment: OffsetDateTime) -> OffsetDateTime {
        let offset = Timestamp::from_second(moment.unix_timestamp()).ok().map(|it| self.zone.rules.to_offset(it));
        let offset = offset.and_then(|offset| UtcOffset::from_whole_seconds(offset.seconds()).ok());
        offset.and_then(|offset| moment.checked_to_offset(offset)).unwrap_or(moment)
    }
}

/// A moment in a zone, in whole seconds.
#[derive(Clone, Copy)]
struct Local<'a> {
    second: Timestamp,
    zone: &'a TimeZone,
}

impl Local<'_> {
    fn civil(&self) -> DateTime {
        self.zone.to_datetime(self.second)
    }
}

impl CronDateTime for Local<'_> {
    fn to_civil(&self) -> CivilDateTime {
        let civil = self.civil();
        let [month, day, hour, minute, second] =
            [civil.month(), civil.day(), civil.hour(), civil.minute(), civil.second()].map(|part| part as u32);
        CivilDateTime::from_ymd_hms_opt(civil.year().into(), month, day, hour, minute, second)
            .expect("a date of one calendar is one of the other")
    }

    fn civil_weekday(&self) -> Weekday {
        Weekday::from_days_from_sunday(self.civil().weekday().to_sunday_zero_offset() as u32)
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
        let [month, day, hour, minute, second] =
            [civil.month(), civil.day(), civil.hour(), civil.minute(), civil.second()].map(|part| part as i8);
        let civil = DateTime::new(year, month, day, hour, minute, second, 0).map_err(|_| CronError::InvalidDate)?;
        let found = self.zone.to_ambiguous_timestamp(civil);
        let at = |second: Result<Timestamp, jiff::Error>| match second {
            Ok(second) => Ok(Self { second, ..*self }),
            Err(_) => Err(CronError::InvalidTime),
        };
        Ok(match found.offset() {
            AmbiguousOffset::Unambiguous { .. } => Resolution::Single(at(found.unambiguous())?),
            AmbiguousOffset::Fold { .. } => Resolution::Ambiguous(at(found.earlier())?, at(found.later())?),
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        let second = self.second.checked_add(SignedDuration::from_secs(seconds)).ok()?;
        Some(Self { second, ..*self })
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.second.cmp(&other.second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::{Duration, macros::datetime};

    fn timetable(expression: &str, zone: &str) -> Timetable {
        Timetable::new(expression, Zone::new(zone).unwrap()).unwrap()
    }

    /// Returns the next due times, in the offset of the zone.
    fn due<const N: usize>(timetable: &Timetable, after: OffsetDateTime) -> [OffsetDateTime; N] {
        let mut at = after;
        std::array::from_fn(|_| {
            at = timetable.next_after(at).unwrap();
            timetable.local(at)
        })
    }

    #[test]
    fn expression_is_due_in_its_zone() {
        let daily = timetable("30 2 * * *", "Europe/Berlin");
        assert_eq!(
            due(&daily, datetime!(2026-07-01 0:00 UTC)),
            [datetime!(2026-07-01 2:30 +2), datetime!(2026-07-02 2:30 +2)]
        );
        let fridays = timetable("0 9 * * FRI", "UTC");
        assert_eq!(due(&fridays, datetime!(2026-11-30 0:00 UTC)), [datetime!(2026-12-04 9:00 UTC)]);
        let seconds = timetable("*/20 * * * * *", "UTC");
        assert_eq!(
            due(&seconds, datetime!(2026-11-30 0:00:05.5 UTC)),
            [datetime!(2026-11-30 0:00:20 UTC), datetime!(2026-11-30 0:00:40 UTC),]
        );
        let months = timetable("@monthly", "Pacific/Auckland");
        assert_eq!(due(&months, datetime!(2026-11-30 12:00 UTC)), [datetime!(2027-01-01 0:00 +13)]);
    }

    #[test]
    fn skipped_time_is_due_right_after_the_gap() {
        // In Berlin, 2:00 to 3:00 does not exist on this day.
        let daily = timetable("30 2 * * *", "Europe/Berlin");
        assert_eq!(
            due(&daily, datetime!(2026-03-28 12:00 UTC)),
            [datetime!(2026-03-29 3:00 +2), datetime!(2026-03-30 2:30 +2)]
        );
        let often = timetable("*/30 * * * *", "Europe/Berlin");
        assert_eq!(
            due(&often, datetime!(2026-03-29 0:15 UTC)),
            [datetime!(2026-03-29 1:30 +1), datetime!(2026-03-29 3:00 +2), datetime!(2026-03-29 3:30 +2),]
        );
        // In Cairo, the day begins at 1:00.
        let midnight = timetable("0 0 * * *", "Africa/Cairo");
        assert_eq!(due(&midnight, datetime!(2026-04-23 12:00 UTC)), [datetime!(2026-04-24 1:00 +3)]);
    }

    #[test]
    fn repeated_time_is_due_once() {
        // In New York, 1:00 to 2:00 happens twice on this day.
        let daily = timetable("30 1 * * *", "America/New_York");
        assert_eq!(
            due(&daily, datetime!(2026-10-31 12:00 UTC)),
            [datetime!(2026-11-01 1:30 -4), datetime!(2026-11-02 1:30 -5)]
        );
        // Between the two: the second one is not due.
        assert_eq!(due(&daily, datetime!(2026-11-01 1:45 -4)), [datetime!(2026-11-02 1:30 -5)]);
        let often = timetable("*/30 * * * *", "America/New_York");
        assert_eq!(
            due(&often, datetime!(2026-11-01 1:15 -4)),
            [
                datetime!(2026-11-01 1:30 -4),
                datetime!(2026-11-01 1:00 -5),
                datetime!(2026-11-01 1:30 -5),
                datetime!(2026-11-01 2:00 -5),
            ]
        );
    }

    #[test]
    fn wrong_timetable_is_refused() {
        let new = |expression: &str| Timetable::new(expression, Zone::utc());
        for expression in ["", "every day", "* * * *", "60 * * * *", "* * * * * * 2026", &"1,".repeat(LONGEST)] {
            assert!(matches!(new(expression), Err(BadTimetable::Expression(_))), "{expression}");
        }
        for expression in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
            assert!(matches!(new(expression), Err(BadTimetable::Never(_))), "{expression}");
        }
        assert!(new("0 0 29 2 *").is_ok());
        for zone in ["", "Berlin", "CEST+1", "../../etc/passwd", "Europe/Berlin "] {
            assert_eq!(Zone::new(zone), Err(BadTimetable::Zone(zone.to_owned())));
        }
        assert_eq!(timetable(" 0  0 * * * ", "europe/berlin").to_string(), "0 0 * * * Europe/Berlin");
    }

    const EXPRESSIONS: [&str; 9] = [
        "30 2 * * *",
        "0 0 * * *",
        "30 1 * * *",
        "15 * * * *",
        "*/7 * * * *",
        "0 1,2,3 * * *",
        "*/20 30 2 * * *",
        "0 3 * * SUN",
        "0 0 29 2 *",
    ];
    const ZONES: [&str; 6] =
        ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu"];

    proptest! {
        /// The moment from which a due time is sought does not matter: the next one is the same until it is reached.
        #[test]
        fn next_due_time_is_the_same_until_reached(
            expression in 0..EXPRESSIONS.len(), zone in 0..ZONES.len(),
            // 2026 and 2027, with all their changes of the clock.
            from in 1_767_225_600i64..1_830_297_600, within in 0.0..1.0f64,
        ) {
            let timetable = timetable(EXPRESSIONS[expression], ZONES[zone]);
            let from = OffsetDateTime::from_unix_timestamp(from).unwrap();
            let next = timetable.next_after(from).unwrap();
            prop_assert!(next > from);
            let later = from + Duration::seconds(((next - from).whole_seconds() as f64 * within) as i64);
            prop_assume!(later < next);
            prop_assert_eq!(timetable.next_after(later), Some(next));
            prop_assert!(timetable.next_after(next).unwrap() > next);
        }
    }
}
