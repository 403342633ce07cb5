//! Reads and writes with buffers of 20 MiB, and prints how much went each time: a file, the file in pieces of which the first
//! is empty, its input, and its output in the end.

use std::{
    fs::File,
    io::{IoSlice, IoSliceMut, Read, Result, Write, stdin, stdout},
};

const SIZE: usize = 20 << 20;
/// Of the lines that are written at once.
const LINE: usize = 64 << 10;

fn main() -> Result<()> {
    let mut buffer = vec![b'x'; SIZE];
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open("/tmp/big")?;
    println!("{}", file.write(&buffer)?);
    println!("{}", file.write_vectored(&[IoSlice::new(&[]), IoSlice::new(&buffer)])?);
    let mut file = File::open("/tmp/big")?;
    println!("{}", file.read(&mut buffer)?);
    println!("{}", file.read_vectored(&mut [IoSliceMut::new(&mut []), IoSliceMut::new(&mut buffer)])?);
    println!("{}", stdin().lock().read(&mut buffer)?);
    buffer.iter_mut().skip(LINE - 1).step_by(LINE).for_each(|byte| *byte = b'\n');
    stdout().write_all(&buffer)
}
