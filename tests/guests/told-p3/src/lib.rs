//! `distillery:call` for a WASI 0.3 component: `told-p3 [json]` sets the value, waits for the cancel, and prints its
//! reason.

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "call-async", generate_all });
}

use bindings::distillery::call::{cancellation_async, outcome};
use wasip3::cli::{environment, stdout};

struct Told;

wasip3::cli::command::export!(Told);

impl wasip3::exports::cli::run::Guest for Told {
    async fn run() -> Result<(), ()> {
        let json = environment::get_arguments().into_iter().nth(1).unwrap_or_default();
        let set = outcome::set_value(&json);
        let (mut output, sent) = wasip3::wit_stream::new();
        let written = stdout::write_via_stream(sent);
        output.write_all(format!("{set:?}\nready\n").into_bytes()).await;
        let reason = cancellation_async::wait().await;
        output.write_all(format!("told: {reason:?}\n").into_bytes()).await;
        drop(output);
        written.await.map_err(|_| ())
    }
}
