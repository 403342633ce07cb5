//! Writes to a file through 900 streams and waits for none: as much as each permits, 16 MiB however much it permits, or once
//! more before it may, as its parameter says.

use wasip2::{
    cli::environment::get_arguments,
    filesystem::{
        preopens::get_directories,
        types::{DescriptorFlags, OpenFlags, PathFlags},
    },
};

const STREAMS: u64 = 900;
/// Between the places that two streams write at.
const APART: u64 = 4096;

fn main() {
    let how = get_arguments().pop().expect("a parameter");
    let (directory, _) = &get_directories()[0];
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let file = directory.open_at(PathFlags::empty(), "file", OpenFlags::CREATE, flags).expect("a file");
    let mut streams = Vec::new();
    let mut end = 0;
    for number in 0..STREAMS {
        let stream = file.write_via_stream(number * APART).expect("a stream");
        match how.as_str() {
            "permitted" => {
                let permit = stream.check_write().expect("a permit").min(APART);
                stream.write(&vec![b'x'; permit as usize]).expect("it is permitted");
                end = number * APART + permit;
            }
            "more" => stream.write(&vec![b'x'; 16 << 20]).expect("it ends here"),
            _ => {
                for _ in 0..100_000 {
                    stream.write(&[b'x'; 4096]).expect("it ends here");
                }
            }
        }
        streams.push(stream);
    }
    drop(streams);
    let size = file.stat().expect("it is a file").size;
    println!("{}", if size == end { "all written" } else { "some lost" });
}
