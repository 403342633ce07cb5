//! What a WASI 0.2 component hears and says over `distillery:call`: `told poll|wait|value [json...]`.

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "call",
        with: { "wasi:io/poll@0.2.0": wasip2::io::poll },
    });
}

use bindings::distillery::call::{cancellation, outcome};

fn main() {
    println!("ready");
    match std::env::args().nth(1).as_deref() {
        Some("poll") => {
            let reason = loop {
                if let Some(reason) = cancellation::poll() {
                    break reason;
                }
            };
            println!("told: {reason:?}");
        }
        Some("wait") => {
            cancellation::subscribe().block();
            println!("told: {:?}", cancellation::poll());
        }
        Some("value") => {
            for json in std::env::args().skip(2) {
                println!("{:?}", outcome::set_value(&json));
            }
            println!("{:?}", outcome::set_value(&format!("\"{}\"", "x".repeat(16 << 10))));
        }
        other => panic!("{other:?}"),
    }
    if let Ok(reason) = std::env::var("DISTILLERY_CLEANUP") {
        println!("cleaning up: {reason}");
    }
}
