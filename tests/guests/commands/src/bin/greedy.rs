//! `greedy WHAT`: takes as much as it can of one resource of the host. Most of them need a component.

#[cfg(target_env = "p2")]
fn main() {
    use wasip2::{
        cli::stdout::get_stdout,
        clocks::monotonic_clock::{now, subscribe_duration},
        io::{poll::poll, streams::StreamError},
        random::random::get_random_bytes,
    };

    commands::say("greedy\n").expect("stdout takes a line");
    match std::env::args().nth(1).expect("what to take").as_str() {
        "pollables" => {
            let mut held = Vec::new();
            loop {
                held.push(subscribe_duration(u64::MAX));
            }
        }
        "poll" => {
            let pollable = subscribe_duration(0);
            let list = vec![&pollable; 8 << 20];
            poll(&list);
        }
        "random" => drop(get_random_bytes(u64::MAX)),
        "unpermitted" => {
            let stdout = get_stdout();
            let line = [&vec![b'x'; (1 << 20) - 1][..], b"\n"].concat();
            loop {
                stdout.write(&line).expect("stdout is open");
            }
        }
        "permits" => {
            let streams: Vec<_> = (0..500).map(|_| get_stdout()).collect();
            let permits: Vec<_> = streams.iter().map(|stream| stream.check_write().expect("stdout is open")).collect();
            let line = [&vec![b'x'; 65535][..], b"\n"].concat();
            for (stream, permit) in streams.iter().zip(permits) {
                let most = line.len().min(permit.try_into().expect("a number of bytes"));
                stream.write(&line[line.len() - most..]).expect("stdout is open");
            }
        }
        "zeroes" => match get_stdout().write_zeroes(now() | 1 << 62) {
            Ok(()) | Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => {}
        },
        what => panic!("there is no such thing as {what}"),
    }
}

#[cfg(not(target_env = "p2"))]
fn main() {
    panic!("a module cannot ask for any of it");
}
