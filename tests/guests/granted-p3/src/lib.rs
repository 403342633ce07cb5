//! Granted commands for a WASI 0.3 component: `granted-p3 NAME [PARAM=VALUE...]` gives the command its stdin and copies
//! both outputs.

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "call-async-with-commands", generate_all });
}

use bindings::distillery::call::commands_async::{Running, start};
use wasip3::{
    cli::{environment, stderr, stdin, stdout},
    wit_bindgen::StreamReader,
};

struct Granted;

wasip3::cli::command::export!(Granted);

impl wasip3::exports::cli::run::Guest for Granted {
    async fn run() -> Result<(), ()> {
        let mut arguments = environment::get_arguments().into_iter().skip(1);
        let name = arguments.next().unwrap_or_default();
        let params =
            arguments.filter_map(|it| it.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
        let (input, _) = stdin::read_via_stream();
        match start(name, params.collect(), input).await {
            Ok(Running { command, stdout: output, stderr: errors }) => {
                // Both at the same time: a command that writes to one waits until it is read.
                let (output, errors) = (stdout::write_via_stream(output), stderr::write_via_stream(errors));
                output.await.map_err(|_| ())?;
                errors.await.map_err(|_| ())?;
                print(format!("{:?}\n", command.wait().await)).await
            }
            Err(error) => print(format!("{error:?}\n")).await,
        }
    }
}

async fn print(line: String) -> Result<(), ()> {
    let (mut output, sent): (_, StreamReader<u8>) = wasip3::wit_stream::new();
    let written = stdout::write_via_stream(sent);
    output.write_all(line.into_bytes()).await;
    drop(output);
    written.await.map_err(|_| ())
}
