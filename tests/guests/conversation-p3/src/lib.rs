//! The conversation of `commands/src/bin/conversation.rs` as a WASI 0.3 component, with its asynchronous streams.

use wasip3::cli::{environment, exit, stdin, stdout};

struct Conversation;

wasip3::cli::command::export!(Conversation);

impl wasip3::exports::cli::run::Guest for Conversation {
    async fn run() -> Result<(), ()> {
        let name = environment::get_arguments().into_iter().nth(1).unwrap_or_default();
        let (mut output, sent) = wasip3::wit_stream::new();
        let written = stdout::write_via_stream(sent);
        output.write_all(format!("hello {name}\n").into_bytes()).await;

        if name != "fail" {
            let (mut input, ended) = stdin::read_via_stream();
            let mut line = Vec::new();
            'conversation: loop {
                let (_, bytes) = input.read(Vec::with_capacity(64 * 1024)).await;
                if bytes.is_empty() {
                    break;
                }
                let mut echoes = Vec::new();
                for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                    line.extend_from_slice(piece);
                    if line == b"end\n" {
                        output.write_all(echoes).await;
                        break 'conversation;
                    }
                    if line.ends_with(b"\n") {
                        echoes.extend_from_slice(b"echo: ");
                        echoes.append(&mut line);
                    }
                }
                output.write_all(echoes).await;
            }
            drop((input, ended));
        }

        drop(output);
        let written = written.await;
        if name == "fail" {
            exit::exit_with_code(3);
        }
        written.map_err(drop)
    }
}
