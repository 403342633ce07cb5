//! Polling by preview 1 modules. Files are always ready. A single sleep is handled here, because the implementation
//! would block the thread.

use super::{Guest, MODULE, enter, preview1};
use crate::state::{HOST_CALL, State};
use std::time::Duration;
use wasmtime::Linker;
use wasmtime_wasi::p1::{
    types::{
        Clockid, Errno, Event, EventFdReadwrite, Eventrwflags, Eventtype, Fd, Subclockflags, Subscription,
        SubscriptionU,
    },
    wasi_snapshot_preview1::WasiSnapshotPreview1 as _,
};
use wiggle::{GuestMemory, GuestPtr};

/// The size of a subscription.
const SUBSCRIPTION: u64 = 48;

pub fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "poll_oneoff",
        |mut caller: Guest<'_>, (subscriptions, events, count, out): (i32, i32, i32, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                poll(state, &mut memory, (subscriptions, events, count, out)).await
            })
        },
    )?;
    Ok(())
}

/// Polls with the arguments of the function: subscriptions, events, their number, and the place of the result.
pub async fn poll(
    state: &mut State,
    memory: &mut GuestMemory<'_>,
    (subscriptions, events, count, out): (i32, i32, i32, i32),
) -> wasmtime::Result<i32> {
    let few = u64::from(count as u32) * SUBSCRIPTION <= HOST_CALL.get();
    if state.files.has_any() && few {
        let wanted = GuestPtr::<Subscription>::new(subscriptions as u32);
        let into = GuestPtr::<Event>::new(events as u32);
        let sleep = if count == 1 { sleep(memory, wanted)? } else { None };
        let ready = match sleep {
            Some(sleep) => {
                tokio::time::sleep(sleep).await;
                let event = event(memory.read(wanted)?.userdata, Eventtype::Clock, Eventrwflags::empty());
                memory.write(into, event)?;
                1
            }
            None => files(state, memory, wanted, into, count as u32).await?,
        };
        if ready > 0 {
            memory.write(GuestPtr::<u32>::new(out as u32), ready)?;
            return Ok(Errno::Success as i32);
        }
    }
    preview1::poll_oneoff(&mut state.wasi, memory, subscriptions, events, count, out).await
}

/// Returns the length of a sleep if the guest waits for nothing else.
fn sleep(memory: &GuestMemory<'_>, wanted: GuestPtr<Subscription>) -> wasmtime::Result<Option<Duration>> {
    let SubscriptionU::Clock(clock) = memory.read(wanted)?.u else { return Ok(None) };
    let is_relative = !clock.flags.contains(Subclockflags::SUBSCRIPTION_CLOCK_ABSTIME);
    let is_known = matches!(clock.id, Clockid::Monotonic | Clockid::Realtime);
    Ok((is_relative && is_known).then(|| Duration::from_nanos(clock.timeout)))
}

/// Reports the subscriptions to files. If there are any, the others must wait for the next poll.
async fn files(
    state: &mut State,
    memory: &mut GuestMemory<'_>,
    wanted: GuestPtr<Subscription>,
    mut into: GuestPtr<Event>,
    count: u32,
) -> wasmtime::Result<u32> {
    let mut ready = 0;
    for subscription in wanted.as_array(count).iter() {
        let subscription = memory.read(subscription?)?;
        let (number, kind) = match subscription.u {
            SubscriptionU::FdRead(file) => (file.file_descriptor, Eventtype::FdRead),
            SubscriptionU::FdWrite(file) => (file.file_descriptor, Eventtype::FdWrite),
            SubscriptionU::Clock(_) => continue,
        };
        let Some(file) = state.numbered(u32::from(number) as i32) else { continue };
        // The implementation refuses directories.
        let Ok(file) = state.file(&file)? else { continue };
        let worker = state.worker();
        let size = worker.file_call(async { file.file.metadata() }).await.map_or(0, |it| it.len());
        let is_at_end = kind == Eventtype::FdRead && position(state, memory, number) >= size;
        let flags = if is_at_end { Eventrwflags::FD_READWRITE_HANGUP } else { Eventrwflags::empty() };
        memory.write(into, event(subscription.userdata, kind, flags))?;
        into = into.add(1)?;
        ready += 1;
    }
    Ok(ready)
}

fn position(state: &mut State, memory: &mut GuestMemory<'_>, number: Fd) -> u64 {
    state.wasi.fd_tell(memory, number).unwrap_or_default()
}

fn event(userdata: u64, type_: Eventtype, flags: Eventrwflags) -> Event {
    Event { userdata, error: Errno::Success, type_, fd_readwrite: EventFdReadwrite { flags, nbytes: 1 } }
}
