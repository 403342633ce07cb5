//! Helpers of unit tests that compile plugins and run guests, here and in the crates above. A feature would compile
//! the crate twice, so they are always part of it; the server does not call them.

use super::{
    capacity::Capacity,
    files::Worker,
    guest::{End, Guest},
    linking::Linking,
    program::Invocation,
    runtime::Runtime,
    stdio::StderrTo,
};
use distillery_core::{control::Control, limits::Limits};
use std::sync::{Arc, LazyLock};

/// Returns the runtime of all unit tests: an engine is expensive.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        let capacity = Capacity::of(8);
        Runtime::new(&Limits::default(), &capacity, None).expect("the engine starts")
    });
    &RUNTIME
}

/// Returns a guest that behaves as the future `running`.
pub fn guest(running: impl Future<Output = End> + Send + 'static, control: Arc<Control>) -> Guest {
    Guest::new(Box::pin(running), control, runtime().common.ticker.clone())
}

/// Returns a guest of a module without access to any resource.
pub fn guest_of(module: &str, control: Arc<Control>) -> Guest {
    let limits = Limits::default();
    let program = runtime().compile(module.as_bytes(), &Linking::default(), &limits).expect("the module is right");
    let invocation = Invocation {
        call: "call".parse().expect("a name"),
        leading: Vec::new(),
        params: Vec::new(),
        env: Vec::new(),
        stderr: StderrTo::Log,
        grants: Arc::default(),
    };
    program.start(invocation, &limits, control, ())
}

/// Runs `call` in the way of functions that work on files.
pub async fn works_on_files<T>(control: &Arc<Control>, call: impl FnOnce() -> T) -> T {
    Worker::new(control).file_call(async { call() }).await
}
