//! Traces of single calls: spans of a request, of its wait for a slot, and of its process, as in OpenTelemetry. A
//! request that is not traced costs only the check whether it is.
//!
//! The module does not know who collects the spans: [`export`] does.

pub mod export;

use distillery_core::{redact, trace::TraceContext};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Maximum number of spans that wait to be sent; more are dropped and counted.
const WAITING: usize = 4096;

/// A factory of spans, which decides what is traced.
#[derive(Debug)]
pub struct Tracer {
    spans: Sender<Span>,
    one_in: u64,
    asked: AtomicU64,
    dropped: AtomicU64,
}

/// An open span, which is sent when it is dropped.
#[derive(Debug)]
pub struct Timed {
    tracer: Arc<Tracer>,
    span: Option<Span>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    name: &'static str,
    context: TraceContext,
    parent: Option<u64>,
    /// Whether it is the span of a request from outside.
    is_request: bool,
    from: SystemTime,
    to: SystemTime,
    attributes: Vec<(&'static str, Value)>,
    /// The reason of a failure, if it failed.
    failure: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// The trace context that a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Above {
    context: TraceContext,
    sampled: bool,
}

impl Above {
    /// Reads the header `traceparent` of W3C Trace Context. `None` if it is invalid, as the specification demands.
    fn read(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let hex = |part: &str, length| {
            part.len() == length && part.bytes().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it))
        };
        let well = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
        // Later versions can have more parts.
        if !well || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let context =
            TraceContext { trace: u128::from_str_radix(trace, 16).ok()?, span: u64::from_str_radix(span, 16).ok()? };
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        (context.trace != 0 && context.span != 0).then_some(Self { context, sampled })
    }
}

/// Returns a random id, never zero.
fn random() -> u64 {
    // Without random numbers from the system, little else would work.
    getrandom::u64().unwrap_or_default().max(1)
}

impl Tracer {
    /// Returns a tracer that samples one of `one_in` requests unless the client decides, and the receiver of its spans.
    pub fn new(one_in: u32) -> (Arc<Self>, Receiver<Span>) {
        let (spans, receiver) = channel(WAITING);
        let tracer = Self { spans, one_in: one_in.into(), asked: AtomicU64::default(), dropped: AtomicU64::default() };
        (Arc::new(tracer), receiver)
    }

    /// Returns how many spans were dropped because their receiver is too slow, or gone.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Begins the span of a request, if it is traced. `above` is its `traceparent`.
    pub fn request(self: &Arc<Self>, name: &'static str, above: Option<&str>) -> Option<Timed> {
        let above = above.and_then(Above::read);
        let sampled = match above {
            Some(above) => above.sampled,
            None => self.asked.fetch_add(1, Relaxed).is_multiple_of(self.one_in),
        };
        if !sampled {
            return None;
        }
        let trace = above.map_or_else(|| (u128::from(random()) << 64) | u128::from(random()), |it| it.context.trace);
        let mut timed = self.timed(name, trace, above.map(|it| it.context.span), SystemTime::now());
        if let Some(span) = &mut timed.span {
            span.is_request = true;
        }
        Some(timed)
    }

    /// Begins a child span of `above` that started at `from`.
    pub fn below(self: &Arc<Self>, name: &'static str, above: TraceContext, from: SystemTime) -> Timed {
        self.timed(name, above.trace, Some(above.span), from)
    }

    fn timed(self: &Arc<Self>, name: &'static str, trace: u128, parent: Option<u64>, from: SystemTime) -> Timed {
        let span = Span {
            name,
            context: TraceContext { trace, span: random() },
            parent,
            is_request: false,
            from,
            to: from,
            attributes: Vec::new(),
            failure: None,
        };
        Timed { tracer: self.clone(), span: Some(span) }
    }

    fn tell(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl Timed {
    /// Returns the context for child spans. `None` if there is no span.
    pub fn context(&self) -> Option<TraceContext> {
        self.span.as_ref().map(|span| span.context)
    }

    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.span {
            span.attributes.push((name, value.into()));
        }
    }

    /// Sets the path of a request, without the secrets that clients put into it.
    pub fn set_path(&mut self, path: &str) {
        self.set("url.path", redact::path(path).into_owned());
    }

    pub fn fail(&mut self, why: impl Into<String>) {
        if let Some(span) = &mut self.span {
            span.failure = Some(why.into());
        }
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        if let Some(mut span) = self.span.take() {
            span.to = SystemTime::now();
            self.tracer.tell(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOVE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn trace_context_of_a_client_is_accepted_whole_or_not_at_all() {
        let above = Above::read(ABOVE).unwrap();
        assert_eq!(above.context, TraceContext { trace: 0x0af7651916cd43dd8448eb211c80319c, span: 0xb7ad6b7169203331 });
        assert!(above.sampled && !Above::read(&ABOVE.replace("-01", "-00")).unwrap().sampled);
        assert!(Above::read(&format!("{}-more", ABOVE.replacen("00", "01", 1))).is_some());
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(Above::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sampling_rate_applies_unless_the_client_decides() {
        let (tracer, _spans) = Tracer::new(10);
        assert_eq!((0..100).filter(|_| tracer.request("x", None).is_some()).count(), 10);
        assert!((0..20).all(|_| tracer.request("x", Some(ABOVE)).is_some()));
        assert!((0..20).all(|_| tracer.request("x", Some(&ABOVE.replace("-01", "-00"))).is_none()));
    }

    #[test]
    fn spans_are_linked_and_surplus_ones_dropped() {
        let (tracer, mut spans) = Tracer::new(1);
        let request = tracer.request("request", Some(ABOVE)).unwrap();
        drop(tracer.below("process", request.context().unwrap(), SystemTime::now()).with("call", "x"));
        drop(request);
        let (process, request) = (spans.try_recv().unwrap(), spans.try_recv().unwrap());
        assert_eq!((process.parent, request.parent), (Some(request.context.span), Some(0xb7ad6b7169203331)));
        assert_eq!(process.context.trace, request.context.trace);
        assert!(request.is_request && !process.is_request);
        (0..WAITING + 5).for_each(|_| drop(tracer.request("x", None)));
        assert_eq!(tracer.dropped(), 5);
    }
}
