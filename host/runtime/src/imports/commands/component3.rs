//! Granted commands for components of WASI 0.3. Data moves directly between a pipe and the guest's memory.

use super::{commands, component2, values};
use crate::{
    commands::{Held, begin},
    state::State,
};
use bytes::Bytes;
use distillery_command::{End, Read, Stdin, Stdout};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use wasmtime::{
    AsContextMut, StoreContextMut,
    component::{
        Destination, Linker, Resource, ResourceAny, ResourceType, Source, StreamConsumer, StreamProducer, StreamReader,
        StreamResult, Val,
    },
};
use wasmtime_wasi::WasiView;

const INTERFACE: &str = "distillery:call/commands-async@0.1.0";

type Store<'a> = StoreContextMut<'a, State>;
type Done = Poll<wasmtime::Result<StreamResult>>;

pub fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(INTERFACE)?;
    interface.resource("command", ResourceType::host::<Held>(), |mut store, place| {
        store.data_mut().ctx().table.delete(Resource::<Held>::new_own(place))?;
        Ok(())
    })?;
    interface.func_new_concurrent("start", |guest, _, params, results| {
        let wanted = values::wanted(params);
        let stdin = params.get(2).cloned();
        Box::pin(async move {
            let (name, params) = wanted?;
            let Some(Val::Stream(stdin)) = stdin else { return Err(wasmtime::format_err!("not a stream")) };
            let stdin = StreamReader::<u8>::try_from_stream_any(stdin)?;
            let (found, control) = guest.with(|mut access| {
                let (granted, control) = commands(access.get());
                (granted.find(&name), control)
            });
            let begun = begin(found, &params, &control).await;
            results[0] = guest.with(|mut access| -> wasmtime::Result<Val> {
                let mut store = access.as_context_mut();
                match begun {
                    Ok((held, streams)) => {
                        stdin.pipe(&mut store, Input(streams.stdin))?;
                        let command = store.data_mut().ctx().table.push(held)?;
                        let stdout = StreamReader::new(&mut store, Output(streams.stdout))?;
                        let stderr = StreamReader::new(&mut store, Output(streams.stderr))?;
                        Ok(values::started(Ok([
                            ("command", Val::Resource(command.try_into_resource_any(&mut store)?)),
                            ("stdout", Val::Stream(stdout.try_into_stream_any(&mut store)?)),
                            ("stderr", Val::Stream(stderr.try_into_stream_any(&mut store)?)),
                        ])))
                    }
                    Err(error) => {
                        let mut stdin = stdin;
                        stdin.close(&mut store)?;
                        Ok(values::started::<0>(Err(error)))
                    }
                }
            })?;
            Ok(())
        })
    })?;
    interface.func_new_concurrent("[method]command.wait", |guest, _, params, results| {
        let command = params.first().cloned();
        Box::pin(async move {
            let Some(Val::Resource(command)) = command else { return Err(wasmtime::format_err!("not a command")) };
            let mut end = guest.with(|mut access| -> wasmtime::Result<End> {
                let mut store = access.as_context_mut();
                let command: Resource<Held> = ResourceAny::try_into_resource(command, &mut store)?;
                Ok(store.data_mut().ctx().table.get(&command)?.running.end())
            })?;
            results[0] = values::ended(end.wait().await);
            Ok(())
        })
    })?;
    component2::signal(&mut interface)
}

/// An output of a command.
struct Output(Stdout);

impl StreamProducer<State> for Output {
    type Item = u8;
    type Buffer = bytes::BytesMut;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: Store<'a>,
        destination: Destination<'a, u8, Self::Buffer>,
        finish: bool,
    ) -> Done {
        let mut destination = destination.as_direct(store, PIECE);
        let most = destination.remaining().len();
        if most == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        loop {
            match self.0.read(most) {
                Read::Data(data) => {
                    destination.remaining()[..data.len()].copy_from_slice(&data);
                    destination.mark_written(data.len());
                    return Poll::Ready(Ok(StreamResult::Completed));
                }
                Read::Ended => return Poll::Ready(Ok(StreamResult::Dropped)),
                Read::Empty if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                Read::Empty => ready!(self.0.poll_readable(cx)),
            }
        }
    }
}

/// The buffer of a read by a guest that names no size.
const PIECE: usize = 8 << 10;

/// The input of a command.
struct Input(Stdin);

impl StreamConsumer<State> for Input {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: Store<'_>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Done {
        let mut source = source.as_direct(store);
        loop {
            match self.0.permit() {
                None => return Poll::Ready(Ok(StreamResult::Dropped)),
                Some(0) if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                Some(0) => ready!(self.0.poll_writable(cx)),
                Some(permit) => {
                    let waiting = source.remaining();
                    let count = waiting.len().min(permit);
                    let open = self.0.write(Bytes::copy_from_slice(&waiting[..count]));
                    source.mark_read(count);
                    return Poll::Ready(Ok(if open { StreamResult::Completed } else { StreamResult::Dropped }));
                }
            }
        }
    }
}
