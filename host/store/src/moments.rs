//! Moments in JSON.

use serde::{Serializer, ser::Error as _};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// Writes a moment as [`rfc3339`] does, and `None` as null.
pub fn rfc3339_or_null<S: Serializer>(moment: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match moment {
        Some(moment) => rfc3339(moment, serializer),
        None => serializer.serialize_none(),
    }
}

/// Writes a moment as RFC 3339 in UTC.
pub fn rfc3339<S: Serializer>(moment: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    let utc = moment.checked_to_offset(UtcOffset::UTC).unwrap_or(*moment);
    serializer.serialize_str(&utc.format(&Rfc3339).map_err(S::Error::custom)?)
}
