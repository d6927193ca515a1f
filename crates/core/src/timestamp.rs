//! One point in time, to the microsecond.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One point in time: microseconds since 1970-01-01T00:00:00Z, written as RFC 3339 in UTC with six decimals.
///
/// Microseconds because that is what Postgres keeps: a finer value would not survive a round trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

/// A text that is not an RFC 3339 date and time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an RFC 3339 time such as `2026-11-22T09:30:00Z`")]
pub struct ParseTimestampError(String);

// === impl Timestamp ===

impl Timestamp {
    /// Makes a timestamp from microseconds since the epoch; times outside years -262143 to 262142 are clamped.
    pub fn from_micros(micros: i64) -> Self {
        let clamp = if micros < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        };
        Self(DateTime::from_timestamp_micros(micros).unwrap_or(clamp))
    }

    /// Returns microseconds since the epoch.
    pub fn micros(self) -> i64 {
        self.0.timestamp_micros()
    }

    /// Returns milliseconds since the epoch, rounded down; what Cedar's `datetime` holds.
    pub fn millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// Returns the time `later` after this one, clamped to the last representable.
    pub fn plus(self, later: Duration) -> Self {
        let micros = i64::try_from(later.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.micros().saturating_add(micros))
    }

    /// Returns the minute of the day in UTC, 0 to 1439.
    pub fn minute_of_day(self) -> u32 {
        self.0.hour() * 60 + self.0.minute()
    }

    /// Returns the ISO 8601 day of the week in UTC, 1 (Monday) to 7 (Sunday).
    pub fn weekday(self) -> u32 {
        self.0.weekday().number_from_monday()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = self.0;
        let Ok(year @ 0..=9_999) = u32::try_from(date.year()) else {
            return f.write_str(&date.to_rfc3339_opts(SecondsFormat::Micros, true));
        };
        // Every record has two, and the general way makes a text on the heap for each.
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let mut write = |at: Range<usize>, mut number: u32| {
            for digit in text.get_mut(at).into_iter().flatten().rev() {
                *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
                number /= 10;
            }
        };
        write(0..4, year);
        write(5..7, date.month());
        write(8..10, date.day());
        write(11..13, date.hour());
        write(14..16, date.minute());
        write(17..19, date.second());
        write(20..26, date.timestamp_subsec_micros());
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, ParseTimestampError> {
        DateTime::parse_from_rfc3339(text)
            .map(|time| Self::from_micros(time.timestamp_micros()))
            .ok()
            // An offset can lead out of the years that have a spelling; what is written must be readable.
            .filter(|time| (0..=9_999).contains(&time.0.year()))
            .ok_or_else(|| ParseTimestampError(text.chars().take(80).collect()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_the_general_way_writes_it() {
        let general = |time: Timestamp| time.0.to_rfc3339_opts(SecondsFormat::Micros, true);
        let year_ten_thousand = 253_402_300_800_000_000_i64;
        let edges = [
            0,
            -1,
            1,
            year_ten_thousand,
            year_ten_thousand - 1,
            -62_167_219_200_000_000,
            -62_167_219_200_000_001,
            i64::MIN,
            i64::MAX,
        ];
        // Steps that share no factor with a second, a day or a year, over every year with four digits.
        let steps = (0..20_000).map(|step| -62_167_219_200_000_000 + step * 15_778_476_123_457);
        for micros in edges.into_iter().chain(steps) {
            let time = Timestamp::from_micros(micros);
            assert_eq!(time.to_string(), general(time));
        }
    }
}
