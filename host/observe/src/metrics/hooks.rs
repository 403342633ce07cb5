//! Counters of deliveries to webhooks.

use super::text::{Kind, Text};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The reason why a delivery is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejected {
    UnknownHook,
    NoSignature,
    BadSignature,
    Expired,
    Replayed,
    BadBody,
    BadParameter,
    UnknownUser,
    CallRefused,
    Busy,
}

const ALL: [Rejected; 10] = [
    Rejected::UnknownHook,
    Rejected::NoSignature,
    Rejected::BadSignature,
    Rejected::Expired,
    Rejected::Replayed,
    Rejected::BadBody,
    Rejected::BadParameter,
    Rejected::UnknownUser,
    Rejected::CallRefused,
    Rejected::Busy,
];

impl Rejected {
    /// Returns the reason for metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownHook => "unknown_hook",
            Self::NoSignature => "no_signature",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::Replayed => "replayed",
            Self::BadBody => "bad_body",
            Self::BadParameter => "bad_parameter",
            Self::UnknownUser => "unknown_user",
            Self::CallRefused => "call_refused",
            Self::Busy => "busy",
        }
    }
}

#[derive(Default)]
pub struct HookMetrics {
    accepted: AtomicU64,
    rejected: [AtomicU64; ALL.len()],
}

impl HookMetrics {
    pub fn accepted(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    pub fn rejected(&self, reason: Rejected) {
        self.rejected[reason as usize].fetch_add(1, Relaxed);
    }

    pub fn write(&self, text: &mut Text) {
        let name = "distillery_hook_deliveries_accepted_total";
        text.family(name, Kind::Counter, "Deliveries to webhooks that have started their call.");
        text.sample(name, &[], self.accepted.load(Relaxed) as f64);
        let name = "distillery_hook_deliveries_rejected_total";
        text.family(name, Kind::Counter, "Deliveries to webhooks that were rejected, by reason.");
        for reason in ALL {
            let count = self.rejected[reason as usize].load(Relaxed);
            text.sample(name, &[("reason", reason.name())], count as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_count_by_reason() {
        let metrics = HookMetrics::default();
        metrics.accepted();
        metrics.rejected(Rejected::Replayed);
        let mut text = Text::default();
        metrics.write(&mut text);
        let text = text.finish();
        for reason in ALL {
            let count = u8::from(reason == Rejected::Replayed);
            let line = format!("distillery_hook_deliveries_rejected_total{{reason=\"{}\"}} {count}", reason.name());
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("distillery_hook_deliveries_accepted_total 1"), "{text}");
    }
}
