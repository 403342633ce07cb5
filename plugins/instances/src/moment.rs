//! A time, in milliseconds since 1970.

use anyhow::{Context, Result};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_formatted_for_people_and_for_names() {
        let moment = Moment(1_769_860_800_123);
        assert_eq!(moment.rfc3339().unwrap(), "2026-01-31T12:00:00Z");
        assert_eq!(moment.stamp().unwrap(), "20260131T120000123Z");
    }
}
