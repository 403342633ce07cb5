//! A number of bytes with a unit: `256MiB`. The type of every limit that is a size.

use std::{fmt, str::FromStr};

/// A number of bytes. Reads `4096`, `64KiB`, `16MiB`, `1GiB` (powers of 1024) and prints the largest unit that divides
/// it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Format of a size, for error messages.
pub const SIZE_FORM: &str = "a whole number of bytes, KiB, MiB, GiB or TiB, such as 256MiB";

impl Size {
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the size as a `usize`, or the largest `usize` if it does not fit.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// Error for text that is not a size; [`SIZE_FORM`] describes the format.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a size: write {SIZE_FORM}")]
pub struct NotASize {
    text: String,
}

impl FromStr for Size {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || NotASize { text: text.to_owned() };
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let number: u64 = number.parse().map_err(|_| refused())?;
        let factor = match unit.trim_start() {
            "" | "B" => 1,
            unit => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refused)?.1,
        };
        number.checked_mul(factor).map(Self).ok_or_else(refused)
    }
}

impl serde::Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SIZE_FORM)
            }

            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_prints_as_written() {
        for text in ["1B", "4095B", "64KiB", "16MiB", "3GiB", "1025KiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert_eq!("1024".parse::<Size>().unwrap(), Size::kib(1));
        assert_eq!("0".parse::<Size>().unwrap().to_string(), "0B");
    }

    #[test]
    fn invalid_size_is_refused() {
        for text in ["", "MiB", "1.5MiB", "-1", "16MB", "99999999999TiB", "1 potato"] {
            assert!(text.parse::<Size>().is_err(), "{text:?}");
        }
    }
}
