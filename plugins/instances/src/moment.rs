//! A time, in milliseconds since 1970.

use anyhow::{Context, Result};
use time::{Date, OffsetDateTime, format_description::well_known::Rfc3339};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Formats the time as in RFC 3339, to the second.
    pub fn rfc3339(self) -> Result<String> {
        let whole = OffsetDateTime::from_unix_timestamp((self.0 / 1000) as i64)?;
        whole.format(&Rfc3339).context("the clock of the host is wrong")
    }

    /// Formats the time for a file name, sortable: `20260131T120000123Z`.
    pub fn stamp(self) -> Result<String> {
        let at = OffsetDateTime::from_unix_timestamp((self.0 / 1000) as i64)?;
        let (date, time) = (at.date(), at.time());
        Ok(format!(
            "{:04}{:02}{:02}T{:02}{:02}{:02}{:03}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            time.hour(),
            time.minute(),
            time.second(),
            self.0 % 1000
        ))
    }

    /// Reads the time in a file name.
    pub fn of_stamp(stamp: &str) -> Option<Self> {
        let digits = |from: usize, to: usize| stamp.get(from..to)?.parse::<u32>().ok();
        let is_stamp = stamp.len() == 19 && stamp.is_ascii() && stamp.as_bytes()[8] == b'T' && stamp.ends_with('Z');
        let month = time::Month::try_from(u8::try_from(digits(4, 6)?).ok()?).ok()?;
        let date = Date::from_calendar_date(digits(0, 4)? as i32, month, digits(6, 8)? as u8).ok()?;
        let time = date.with_hms_milli(
            digits(9, 11)? as u8,
            digits(11, 13)? as u8,
            digits(13, 15)? as u8,
            u16::try_from(digits(15, 18)?).ok()?,
        );
        let seconds = time.ok()?.assume_utc().unix_timestamp_nanos() / 1_000_000;
        is_stamp.then_some(Self(u64::try_from(seconds).ok()?))
    }

    fn date(self) -> Option<Date> {
        OffsetDateTime::from_unix_timestamp((self.0 / 1000) as i64).ok().map(OffsetDateTime::date)
    }

    /// Returns the number of the day in UTC.
    pub fn day(self) -> Option<i64> {
        self.date().map(|date| i64::from(date.to_julian_day()))
    }

    /// Returns the number of the week, which begins on Monday.
    pub fn week(self) -> Option<i64> {
        self.date().map(|date| i64::from(date.to_julian_day()).div_euclid(7))
    }

    pub fn month(self) -> Option<i64> {
        self.date().map(|date| i64::from(date.year()) * 12 + i64::from(u8::from(date.month())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_formatted_for_people_and_for_names() {
        let moment = Moment(1_769_860_800_123);
        assert_eq!(moment.rfc3339().unwrap(), "2026-01-31T12:00:00Z");
        assert_eq!(moment.stamp().unwrap(), "20260131T120000123Z");
        assert_eq!(Moment::of_stamp("20260131T120000123Z"), Some(moment));
        for other in ["", "20260131T120000123", "20261331T120000123Z", "20260131T120000123ZZ", "2026013ZT120000123Z"] {
            assert_eq!(Moment::of_stamp(other), None, "{other}");
        }
    }
}
