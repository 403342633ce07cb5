//! `distillery:call` for a WASI 0.2 component: `told poll|wait`, `told value [json...]`, or `told systems [list|put
//! SLUG|remove SLUG]...`.

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "call",
        with: { "wasi:io/poll@0.2.0": wasip2::io::poll },
    });
}

use bindings::distillery::call::{
    cancellation, outcome,
    systems::{self, System},
};

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
        Some("systems") => {
            let mut words = std::env::args().skip(2);
            while let Some(word) = words.next() {
                let mut slug = || words.next().expect("a slug");
                match word.as_str() {
                    "list" => match systems::list() {
                        Ok(all) => println!("{:?}", all.iter().map(|it| (&it.slug, &it.last_edit)).collect::<Vec<_>>()),
                        Err(why) => println!("{why}"),
                    },
                    "put" => println!("{:?}", systems::put(&system(slug()))),
                    "remove" => println!("{:?}", systems::remove(&slug())),
                    other => panic!("{other:?}"),
                }
            }
        }
        other => panic!("{other:?}"),
    }
    if let Ok(reason) = std::env::var("DISTILLERY_CLEANUP") {
        println!("cleaning up: {reason}");
    }
}

fn system(slug: String) -> System {
    System {
        url: format!("https://{slug}.example.org"),
        slug,
        tagline: "made by a call".to_owned(),
        entity_count: 1,
        bundle_count: 2,
        last_edit: Some("2026-11-24T12:00:00Z".to_owned()),
    }
}
