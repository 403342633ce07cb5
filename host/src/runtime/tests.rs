//! What any guest is, seen from the runtime alone: no sockets.

use super::*;
use crate::limits::Limits;
use std::sync::LazyLock;

/// One runtime for all unit tests: an engine is dear.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        let capacity = Capacity { processes: 8, lowered: None };
        Runtime::new(&Limits::default(), &capacity, None).expect("the engine starts")
    });
    &RUNTIME
}
