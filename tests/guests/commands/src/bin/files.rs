//! Uses files as its parameters say, and prints each result: `ok`, the content, or the kind of the error. `write /a 10`
//! writes ten bytes, `fill /a` as many as it can.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Result, Seek, SeekFrom, Write},
};

/// Bytes of one write.
const PIECE: usize = 64 << 10;

fn main() {
    let mut kept = Vec::new();
    for todo in env::args().skip(1) {
        match run(&todo.split(' ').collect::<Vec<_>>(), &mut kept) {
            Ok(done) => println!("{done}"),
            Err(error) => println!("{:?}", kind(&error)),
        }
    }
}

/// Systems without capabilities report that something is forbidden in several ways.
fn kind(error: &std::io::Error) -> ErrorKind {
    match error.raw_os_error() {
        // "Not capable" in WASI.
        Some(76) => ErrorKind::PermissionDenied,
        _ => error.kind(),
    }
}

fn run(todo: &[&str], kept: &mut Vec<File>) -> Result<String> {
    let number = |text: &str| text.parse::<u64>().expect("a number");
    match *todo {
        ["read", path] => return fs::read_to_string(path),
        ["list", path] => {
            let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            let mut names = names.collect::<Result<Vec<_>>>()?;
            names.sort();
            return Ok(names.join(" "));
        }
        ["size", path] => return Ok(fs::metadata(path)?.len().to_string()),
        ["write", path, count] => write(&mut create(path)?, number(count))?,
        ["rewrite", path, count] => write(&mut File::create(path)?, number(count))?,
        ["append", path, count] => {
            write(&mut OpenOptions::new().append(true).create(true).open(path)?, number(count))?;
        }
        ["hole", path, at] => {
            let mut file = create(path)?;
            file.seek(SeekFrom::Start(number(at)))?;
            write(&mut file, 1)?;
        }
        ["grow", path, size] => create(path)?.set_len(number(size))?,
        ["fill", path] => return Ok(fill(&mut create(path)?)),
        ["keep", path] => kept.push(File::open(path)?),
        ["again"] => {
            let mut first = String::new();
            kept.last_mut().expect("something was kept").read_to_string(&mut first)?;
            return Ok(format!("{} bytes", first.len()));
        }
        ["release"] => kept.clear(),
        ["remove", path] => fs::remove_file(path)?,
        ["mkdir", path] => fs::create_dir(path)?,
        ["link", from, to] => fs::hard_link(from, to)?,
        ["rename", from, to] => fs::rename(from, to)?,
        ["empty", path, count] => {
            for made in 0..number(count) {
                if let Err(error) = create(&format!("{path}/{made}")) {
                    return Ok(format!("{made} then {:?}", kind(&error)));
                }
            }
        }
        ["wait"] => {
            println!("waiting");
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
        }
        _ => panic!("not understood: {todo:?}"),
    }
    Ok("ok".to_owned())
}

fn create(path: &str) -> Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn write(file: &mut File, count: u64) -> Result<()> {
    let mut left = count as usize;
    while left > 0 {
        let piece = left.min(PIECE);
        file.write_all(&vec![b'x'; piece])?;
        left -= piece;
    }
    Ok(())
}

fn fill(file: &mut File) -> String {
    let mut count = 0;
    loop {
        if let Err(error) = file.write_all(&[b'x'; 4096]) {
            return format!("{count} then {:?}", kind(&error));
        }
        count += 4096;
    }
}
