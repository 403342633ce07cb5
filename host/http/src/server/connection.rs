//! Open connections: their maximum number, and their traffic.

use crate::socket::HangUp;
use distillery_core::auth::client_address;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    fmt, io,
    net::IpAddr,
    os::fd::AsFd,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A counter of open connections, in total and by address.
pub struct Connections {
    most: usize,
    most_per_address: usize,
    open: Mutex<Open>,
    counters: Arc<Counters>,
}

/// The traffic of all connections so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub accepted: u64,
    /// Connections that were refused because of a limit, in total or by address.
    pub full: u64,
    pub full_for_address: u64,
    /// Connections whose TLS handshake failed.
    pub tls_failed: u64,
    /// The bytes of connections that have ended.
    pub read: u64,
    pub written: u64,
}

#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    full: AtomicU64,
    full_for_address: AtomicU64,
    tls_failed: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
}

impl Counters {
    /// Counts a failed TLS handshake.
    pub fn tls_failed(&self) {
        self.tls_failed.fetch_add(1, Relaxed);
    }
}

#[derive(Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection, counted while any clone exists.
#[derive(Clone)]
pub struct Guard(Arc<Entry>);

impl Guard {
    /// Returns whether the connection comes from a proxy, which forwards clients of other addresses.
    pub fn is_of_proxy(&self) -> bool {
        self.0.address.is_none()
    }

    /// Returns the counters of its traffic.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.0.connections.counters
    }
}

struct Entry {
    connections: Arc<Connections>,
    /// The address that it counts for; `None` for a proxy.
    address: Option<IpAddr>,
    /// Whether it is a connection and counts in the total.
    whole: bool,
}

/// The reason why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Full,
    FullForAddress,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too many connections",
            Self::FullForAddress => "too many connections from this address",
        })
    }
}

impl Connections {
    pub fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_address, open: Mutex::default(), counters: Arc::default() })
    }

    /// Returns the number of open connections.
    pub fn open(&self) -> usize {
        self.open.lock().all
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    pub fn traffic(&self) -> Traffic {
        let counters = &self.counters;
        let load = |count: &AtomicU64| count.load(Relaxed);
        Traffic {
            accepted: load(&counters.accepted),
            full: load(&counters.full),
            full_for_address: load(&counters.full_for_address),
            tls_failed: load(&counters.tls_failed),
            read: load(&counters.read),
            written: load(&counters.written),
        }
    }

    /// Counts one more connection from `address`, until the returned guard and its clones are dropped. A proxy's
    /// connections count in the total, but not by address.
    pub fn enter(self: &Arc<Self>, address: IpAddr, is_proxy: bool) -> Result<Guard, Refused> {
        let entered = self.count((!is_proxy).then_some(address), true);
        let count = match entered {
            Ok(_) => &self.counters.accepted,
            Err(Refused::Full) => &self.counters.full,
            Err(Refused::FullForAddress) => &self.counters.full_for_address,
        };
        count.fetch_add(1, Relaxed);
        entered
    }

    /// Counts a client at `address` behind a proxy.
    pub fn sit(self: &Arc<Self>, address: IpAddr) -> Result<Guard, Refused> {
        let seat = self.count(Some(address), false);
        if seat.is_err() {
            self.counters.full_for_address.fetch_add(1, Relaxed);
        }
        seat
    }

    fn count(self: &Arc<Self>, address: Option<IpAddr>, whole: bool) -> Result<Guard, Refused> {
        let address = address.map(client_address);
        let mut open = self.open.lock();
        if whole && open.all >= self.most {
            return Err(Refused::Full);
        }
        if let Some(address) = address {
            let here = open.by_address.entry(address).or_default();
            if *here >= self.most_per_address {
                return Err(Refused::FullForAddress);
            }
            *here += 1;
        }
        open.all += usize::from(whole);
        Ok(Guard(Arc::new(Entry { connections: self.clone(), address, whole })))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.all -= usize::from(self.whole);
        if let Some(address) = &self.address
            && let Some(here) = open.by_address.get_mut(address)
        {
            *here -= 1;
            if *here == 0 {
                open.by_address.remove(address);
            }
        }
    }
}

/// The number of bytes that a connection has written.
#[derive(Debug, Default)]
pub struct Meter(AtomicU64);

impl Meter {
    pub fn written(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A connection that counts its writes, and fails if its client reads nothing for too long.
pub struct Watched<S> {
    stream: S,
    meter: Arc<Meter>,
    patience: Duration,
    /// Runs while the client reads nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    read: u64,
    counters: Arc<Counters>,
    hang_up: HangUp,
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        self.counters.read.fetch_add(self.read, Relaxed);
        self.counters.written.fetch_add(self.meter.written(), Relaxed);
    }
}

impl<S> Watched<S> {
    /// Wraps `stream`. `patience` is the time for which a client is allowed to read nothing. At the end the traffic is
    /// added to `counters`.
    pub fn new(stream: S, patience: Duration, counters: Arc<Counters>) -> (Self, Arc<Meter>) {
        let meter = Arc::<Meter>::default();
        let hang_up = HangUp::default();
        (Self { stream, meter: meter.clone(), patience, stalled: None, read: 0, counters, hang_up }, meter)
    }

    /// Where a look at the connection is asked for.
    pub fn hang_up(&self) -> HangUp {
        self.hang_up.clone()
    }

    fn judge(&mut self, polled: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Ok(written)) => {
                self.stalled = None;
                self.meter.0.fetch_add(written as u64, Relaxed);
                Poll::Ready(Ok(written))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let patience = self.patience;
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
                stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.read += (buffer.filled().len() - before) as u64;
        polled
    }
}

impl<S: AsyncWrite + AsFd + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.judge(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.hang_up.look(&self.stream);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn connections_are_counted_in_total_and_by_address() {
        let address = |last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
        let connections = Connections::new(3, 2);
        let first = connections.enter(address(1), false).unwrap();
        let _second = connections.enter(address(1), false).unwrap();
        assert_eq!(connections.enter(address(1), false).err(), Some(Refused::FullForAddress));
        let _third = connections.enter(address(2), false).unwrap();
        assert_eq!(connections.enter(address(3), false).err(), Some(Refused::Full));
        drop(first.clone());
        assert_eq!(connections.enter(address(3), false).err(), Some(Refused::Full));
        drop(first);
        assert!(connections.enter(address(1), false).is_ok());
        assert!(connections.open.lock().by_address.len() == 2);
    }

    #[test]
    fn proxied_clients_count_by_their_own_addresses() {
        let address = |last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
        let connections = Connections::new(3, 1);
        let _proxy = [(); 3].map(|()| connections.enter(address(1), true).unwrap());
        assert_eq!(connections.enter(address(1), true).err(), Some(Refused::Full));
        let first = connections.sit(address(2)).unwrap();
        assert_eq!(connections.sit(address(2)).err(), Some(Refused::FullForAddress));
        assert!(connections.sit(address(3)).is_ok());
        drop(first);
        assert!(connections.sit(address(2)).is_ok());
        assert_eq!(connections.open(), 3);
    }
}
