//! Granted commands for components of WASI 0.2.

use super::{commands, values};
use crate::{
    commands::{Held, Streams, begin},
    state::State,
};
use bytes::Bytes;
use distillery_command::{End, Read, Stdin, Stdout};
use std::future::poll_fn;
use wasmtime::{
    AsContextMut, StoreContextMut,
    component::{Linker, Resource, ResourceAny, ResourceType, Val},
};
use wasmtime_wasi::{
    WasiView, async_trait,
    p2::{
        DynInputStream, DynOutputStream, DynPollable, InputStream, OutputStream, Pollable, StreamError, StreamResult,
        subscribe,
    },
};

const INTERFACE: &str = "distillery:call/commands@0.1.0";

type Store<'a> = StoreContextMut<'a, State>;

/// An output of a command.
struct Output(Stdout);

/// The input of a command.
struct Input(Stdin);

/// A guest's subscription to the end of a command.
struct Ending(End);

pub fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.instance("distillery:call/command-types@0.1.0")?;
    let mut interface = linker.instance(INTERFACE)?;
    interface.resource("command", ResourceType::host::<Held>(), |mut store, place| {
        store.data_mut().ctx().table.delete(Resource::<Held>::new_own(place))?;
        Ok(())
    })?;
    interface.func_new_async("start", |mut store, _, params, results| {
        let found = values::wanted(params);
        Box::new(async move {
            let (name, params) = found?;
            let (granted, control) = commands(store.data());
            let begun = begin(granted.find(&name), &params, &control).await;
            let running = match begun {
                Ok((held, streams)) => Ok(give(&mut store, held, streams)?),
                Err(error) => Err(error),
            };
            results[0] = values::started::<4>(running);
            Ok(())
        })
    })?;
    interface.func_new("[method]command.poll", |mut store, _, params, results| {
        let ended = held(&mut store, params)?.running.ended();
        results[0] = Val::Option(ended.map(|it| Box::new(values::ended(it))));
        Ok(())
    })?;
    interface.func_wrap(
        "[method]command.subscribe",
        |mut store: Store<'_>, (command,): (Resource<Held>,)| -> wasmtime::Result<(Resource<DynPollable>,)> {
            let table = store.data_mut().ctx().table;
            let end = table.get(&command)?.running.end();
            let ending = table.push(Ending(end))?;
            Ok((subscribe(table, ending)?,))
        },
    )?;
    signal(&mut interface)
}

/// Adds `command.signal`, which both versions have.
pub fn signal(interface: &mut wasmtime::component::LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    interface.func_new("[method]command.signal", |mut store, _, params, _| {
        let signal = params.get(1).and_then(values::signal).ok_or_else(|| wasmtime::format_err!("not a signal"))?;
        held(&mut store, params)?.running.signal(signal);
        Ok(())
    })
}

/// Gives a command and its streams to the guest.
fn give(store: &mut Store<'_>, held: Held, streams: Streams) -> wasmtime::Result<[(&'static str, Val); 4]> {
    let table = store.data_mut().ctx().table;
    let command = table.push(held)?;
    let stdin = table.push(Box::new(Input(streams.stdin)) as DynOutputStream)?;
    let stdout = table.push(Box::new(Output(streams.stdout)) as DynInputStream)?;
    let stderr = table.push(Box::new(Output(streams.stderr)) as DynInputStream)?;
    Ok([
        ("command", Val::Resource(command.try_into_resource_any(store.as_context_mut())?)),
        ("stdin", Val::Resource(stdin.try_into_resource_any(store.as_context_mut())?)),
        ("stdout", Val::Resource(stdout.try_into_resource_any(store.as_context_mut())?)),
        ("stderr", Val::Resource(stderr.try_into_resource_any(store.as_context_mut())?)),
    ])
}

/// Returns the command that is the first parameter of a method.
fn held<'a>(store: &'a mut Store<'_>, params: &[Val]) -> wasmtime::Result<&'a Held> {
    let Some(Val::Resource(command)) = params.first() else { return Err(wasmtime::format_err!("not a command")) };
    let command: Resource<Held> = ResourceAny::try_into_resource(*command, store.as_context_mut())?;
    Ok(store.data_mut().ctx().table.get(&command)?)
}

#[async_trait]
impl Pollable for Ending {
    async fn ready(&mut self) {
        self.0.wait().await;
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.poll_readable(cx)).await;
    }
}

#[async_trait]
impl InputStream for Output {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match self.0.read(size) {
            Read::Data(data) => Ok(data),
            Read::Empty => Ok(Bytes::new()),
            Read::Ended => Err(StreamError::Closed),
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        loop {
            let data = self.read(size)?;
            if !data.is_empty() || size == 0 {
                return Ok(data);
            }
            self.ready().await;
        }
    }
}

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.poll_writable(cx)).await;
    }
}

#[async_trait]
impl OutputStream for Input {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match self.0.permit() {
            // A guest can skip the request for a permit.
            Some(permit) if bytes.len() > permit => {
                Err(StreamError::trap("it writes more to a command than it was permitted to"))
            }
            Some(_) if self.0.write(bytes) => Ok(()),
            _ => Err(StreamError::Closed),
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.0.permit().ok_or(StreamError::Closed)
    }
}
