//! Granted commands for modules of preview 1: functions of the import module `distillery_call`.
//!
//! A module has one thread, so only `command_poll` waits. docs/reference/preview1.md describes them.

use super::{commands, values};
use crate::{
    commands::{Entry, Kind, NotStarted, Streams, Table, begin},
    state::State,
    stdio,
};
use bytes::Bytes;
use distillery_command::{Bound, Ended, Read, Status};
use distillery_core::{call::Span, control::Control};
use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};
use wasmtime::{Caller, Extern, Linker, Memory, Trap};

/// The import module.
const MODULE: &str = "distillery_call";
/// The largest name and parameters of a command: more than their rules allow.
const WANTED: usize = 1 << 20;
/// What `command_poll` waits for.
const STDIN: u32 = 1;
const STDOUT: u32 = 2;
const STDERR: u32 = 4;
const ENDED: u32 = 8;
const INPUT: u32 = 16;
const TOLD: u32 = 32;
/// The answer of functions if there is nothing more, or no such command.
const NONE: i32 = -1;
/// Added to the number of a signal that ended a command.
const SIGNALLED: i32 = 256;

type Guest<'a> = Caller<'a, State>;

pub fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "command_start",
        |guest: Guest<'_>, (name, name_length, params, params_length, command): (u32, u32, u32, u32, u32)| {
            Box::new(start(guest, (name, name_length), (params, params_length), command))
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "command_poll",
        |mut guest: Guest<'_>, (command, wanted, timeout): (u32, u32, i32)| {
            Box::new(async move { poll(&mut guest, command, wanted, timeout).await })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "command_error",
        |mut guest: Guest<'_>, address: u32, size: u32| -> wasmtime::Result<u32> {
            let text = guest.data().commands.modules.error.clone();
            let shown = &text.as_bytes()[..text.len().min(size as usize)];
            memory(&mut guest)?.write(&mut guest, address as usize, shown).map_err(|_| outside())?;
            Ok(text.len() as u32)
        },
    )?;
    linker.func_wrap(MODULE, "command_write", write)?;
    linker.func_wrap(MODULE, "command_read", read)?;
    linker.func_wrap(MODULE, "command_close", |mut guest: Guest<'_>, command: u32| {
        if let Some(entry) = table(&mut guest).get(command) {
            entry.stdin = None;
        }
    })?;
    linker.func_wrap(MODULE, "command_signal", |mut guest: Guest<'_>, command: u32, signal: u32| -> i32 {
        let signal = values::SIGNALS.get((signal as usize).wrapping_sub(1));
        match (table(&mut guest).get(command), signal) {
            (Some(entry), Some((_, signal))) => {
                entry.held.running.signal(*signal);
                0
            }
            _ => NONE,
        }
    })?;
    linker
        .func_wrap(MODULE, "command_status", |mut guest: Guest<'_>, command: u32| status(table(&mut guest), command))?;
    linker.func_wrap(MODULE, "command_bound", |mut guest: Guest<'_>, command: u32| -> i32 {
        match table(&mut guest).get(command).and_then(|entry| entry.held.running.ended()?.bound) {
            None => 0,
            Some(Bound::Time) => 1,
            Some(Bound::Output) => 2,
        }
    })?;
    linker.func_wrap(MODULE, "command_drop", |mut guest: Guest<'_>, command: u32| {
        if let Some(place) = table(&mut guest).commands.get_mut(command as usize) {
            *place = None;
        }
    })?;
    Ok(())
}

fn table<'a>(guest: &'a mut Guest<'_>) -> &'a mut Table {
    &mut guest.data_mut().commands.modules
}

fn memory(guest: &mut Guest<'_>) -> wasmtime::Result<Memory> {
    match guest.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(wasmtime::format_err!("it exports no memory")),
    }
}

fn outside() -> wasmtime::Error {
    Trap::MemoryOutOfBounds.into()
}

fn bytes(guest: &mut Guest<'_>, (address, length): (u32, u32)) -> wasmtime::Result<Vec<u8>> {
    let memory = memory(guest)?;
    let (address, length) = (address as usize, length as usize);
    memory.data(&guest).get(address..address.saturating_add(length)).map(<[u8]>::to_vec).ok_or_else(outside)
}

async fn start(mut guest: Guest<'_>, name: (u32, u32), params: (u32, u32), command: u32) -> wasmtime::Result<i32> {
    let wanted = if name.1 as usize > WANTED || params.1 as usize > WANTED {
        Err(NotStarted { kind: Kind::InvalidParameter, why: "the parameters are too large".to_owned() })
    } else {
        wanted(&bytes(&mut guest, name)?, &bytes(&mut guest, params)?)
    };
    let begun = match wanted {
        Ok((name, params)) => {
            let (granted, control) = commands(guest.data());
            let found = granted.find(&name);
            let bounds = found.as_ref().ok().map(|(command, ..)| (command.timeout, command.output));
            begin(found, &params, &control).await.map(|begun| (begun, bounds.unwrap_or_default()))
        }
        Err(error) => Err(error),
    };
    match begun {
        Ok(((held, Streams { stdin, stdout, stderr }), (timeout, output))) => {
            let entry = Entry { held, stdin: Some(stdin), stdout, stderr, timeout, output };
            let number = table(&mut guest).add(entry);
            memory(&mut guest)?.write(&mut guest, command as usize, &number.to_le_bytes()).map_err(|_| outside())?;
            Ok(0)
        }
        Err(NotStarted { kind, why }) => {
            table(&mut guest).error = why;
            Ok(kind as i32 + 1)
        }
    }
}

/// Reads a name, and pairs of a name and a value that each end with a NUL character.
fn wanted(name: &[u8], params: &[u8]) -> Result<(String, Vec<(String, String)>), NotStarted> {
    let invalid = |why: &str| NotStarted { kind: Kind::InvalidParameter, why: why.to_owned() };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| invalid("a parameter is not UTF-8"));
    let mut texts = params.split(|byte| *byte == 0).map(text).collect::<Result<Vec<_>, _>>()?;
    if !texts.pop().unwrap_or_default().is_empty() || !texts.len().is_multiple_of(2) {
        return Err(invalid(
            "the parameters are not pairs of a name and a value, each with a NUL character at its end",
        ));
    }
    let mut pairs = Vec::with_capacity(texts.len() / 2);
    let mut texts = texts.into_iter();
    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
        pairs.push((name, value));
    }
    Ok((text(name)?, pairs))
}

fn write(mut guest: Guest<'_>, command: u32, address: u32, length: u32) -> wasmtime::Result<i32> {
    let permit = match table(&mut guest).get(command).and_then(|entry| entry.stdin.as_mut()?.permit()) {
        None => return Ok(NONE),
        Some(permit) => length.min(permit as u32),
    };
    let data = bytes(&mut guest, (address, permit))?;
    if let Some(stdin) = table(&mut guest).get(command).and_then(|entry| entry.stdin.as_mut())
        && permit > 0
        && !stdin.write(Bytes::from(data))
    {
        return Ok(NONE);
    }
    Ok(permit as i32)
}

fn read(mut guest: Guest<'_>, command: u32, stream: u32, address: u32, size: u32) -> wasmtime::Result<i32> {
    let Some(entry) = table(&mut guest).get(command) else { return Ok(NONE) };
    let stream = match stream {
        1 => &entry.stdout,
        2 => &entry.stderr,
        _ => return Ok(NONE),
    };
    match stream.read(size as usize) {
        Read::Empty => Ok(0),
        Read::Ended => Ok(NONE),
        Read::Data(data) => {
            memory(&mut guest)?.write(&mut guest, address as usize, &data).map_err(|_| outside())?;
            Ok(data.len() as i32)
        }
    }
}

/// Waits until something of `wanted` is ready, and returns what is. Returns 0 after `timeout` milliseconds, if it is not
/// negative.
async fn poll(guest: &mut Guest<'_>, command: u32, wanted: u32, timeout: i32) -> wasmtime::Result<i32> {
    let control = guest.data().control.clone();
    let Some(entry) = table(guest).get(command) else { return Ok(NONE) };
    let mut end = entry.held.running.end();
    let mut ended = pin!(end.wait());
    let mut told = pin!(told(&control));
    let ready = poll_fn(|cx| {
        let mut ready = 0;
        let mut note = |bit: u32, is_ready: &mut dyn FnMut(&mut std::task::Context<'_>) -> bool| {
            if wanted & bit != 0 && is_ready(cx) {
                ready |= bit;
            }
        };
        note(STDIN, &mut |cx| entry.stdin.as_mut().is_none_or(|stdin| stdin.poll_writable(cx).is_ready()));
        note(STDOUT, &mut |cx| entry.stdout.poll_readable(cx).is_ready());
        note(STDERR, &mut |cx| entry.stderr.poll_readable(cx).is_ready());
        note(ENDED, &mut |cx| ended.as_mut().poll(cx).is_ready());
        note(INPUT, &mut |cx| stdio::Stdin(control.clone()).poll_readable(cx).is_ready());
        note(TOLD, &mut |cx| told.as_mut().poll(cx).is_ready());
        if ready == 0 { Poll::Pending } else { Poll::Ready(ready as i32) }
    });
    match u64::try_from(timeout) {
        Err(_) => Ok(ready.await),
        Ok(timeout) => Ok(tokio::time::timeout(Duration::from_millis(timeout), ready).await.unwrap_or_default()),
    }
}

async fn told(control: &Arc<Control>) {
    control.told().await;
}

fn status(table: &mut Table, command: u32) -> i32 {
    let Some(entry) = table.get(command) else { return NONE };
    let Some(Ended { status, bound }) = entry.held.running.ended() else { return NONE };
    let text = match (bound, status) {
        (Some(Bound::Time), _) => format!("the command ran for {}, as long as it may", Span(entry.timeout)),
        (Some(Bound::Output), _) => format!("the command wrote {}, as much as it may", entry.output),
        (None, Status::Signalled(signal)) => format!("the command was ended by signal {signal}"),
        (None, Status::Exited(_)) => String::new(),
    };
    table.error = text;
    match status {
        Status::Exited(status) => status.into(),
        Status::Signalled(signal) => SIGNALLED + i32::from(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_pairs_that_end_with_a_nul() {
        let read = |params: &[u8]| wanted(b"name", params).map(|(_, pairs)| pairs).map_err(|error| error.why);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read(b"").unwrap(), []);
        assert_eq!(read(b"a\0b c\0d\0\0").unwrap(), [pair("a", "b c"), pair("d", "")]);
        for invalid in [&b"a"[..], b"a\0", b"a\0b", b"a\0b\0c\0", b"a\0b\0c"] {
            assert!(read(invalid).unwrap_err().starts_with("the parameters are not pairs"), "{invalid:?}");
        }
        assert_eq!(read(b"a\0\xff\0").unwrap_err(), "a parameter is not UTF-8");
    }
}
