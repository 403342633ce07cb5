//! The runtime that unit tests of other modules compile their plugins with.

use super::*;
use crate::limits::Limits;
use std::sync::LazyLock;

/// One runtime for all unit tests: an engine is dear.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        let capacity = Capacity::of(8);
        Runtime::new(&Limits::default(), &capacity, None).expect("the engine starts")
    });
    &RUNTIME
}
