//! The limits of a manifest, as written.

use distillery_core::{limits::Lowered, size::Size};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::time::Duration;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WrittenLimits {
    memory: Option<Positive<Size>>,
    #[serde(deserialize_with = "positive_span")]
    time: Option<Duration>,
    #[serde(deserialize_with = "positive_span")]
    cpu: Option<Duration>,
    output: Option<Positive<Size>>,
    input: Option<Positive<Size>>,
    line: Option<Positive<Size>>,
    params: Option<usize>,
    params_size: Option<Size>,
    tables: Option<u64>,
    instances: Option<Positive<u64>>,
    resources: Option<Positive<u64>>,
    processes: Option<Positive<u32>>,
}

impl From<WrittenLimits> for Lowered {
    fn from(written: WrittenLimits) -> Self {
        Self {
            memory: written.memory.map(|it| it.0),
            time: written.time,
            cpu: written.cpu,
            output: written.output.map(|it| it.0),
            input: written.input.map(|it| it.0),
            line: written.line.map(|it| it.0),
            params: written.params,
            params_size: written.params_size,
            tables: written.tables,
            instances: written.instances.map(|it| it.0),
            resources: written.resources.map(|it| it.0),
            processes: written.processes.map(|it| it.0),
        }
    }
}

/// A limit above zero. A limit of 0 would let nothing run; for `output` in distillery.yaml it means "none", which a
/// plugin cannot request.
struct Positive<T>(T);

const NOT_POSITIVE: &str = "0 lets nothing through: write more than 0, or leave it out to keep the server's limit";

impl<'de, T: Deserialize<'de> + Default + PartialEq> Deserialize<'de> for Positive<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = T::deserialize(deserializer)?;
        if value == T::default() { Err(D::Error::custom(NOT_POSITIVE)) } else { Ok(Self(value)) }
    }
}

pub fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let refused = || D::Error::custom(format_args!("{text:?} is not a duration: write it with its unit, such as 30s"));
    humantime::parse_duration(&text).map(Some).map_err(|_| refused())
}

fn positive_span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    match span(deserializer)? {
        Some(Duration::ZERO) => Err(D::Error::custom(NOT_POSITIVE)),
        span => Ok(span),
    }
}
