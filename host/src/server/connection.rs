//! Connections as they come: how many there may be, and how much each has taken.

use crate::auth::client_address;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    fmt, io,
    net::IpAddr,
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

/// Counts the open connections, in all and by address.
pub struct Connections {
    most: usize,
    most_per_address: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection, counted as long as any clone of this lives.
#[derive(Clone)]
pub struct Guard(Arc<Entry>);

impl Guard {
    /// Where the connection comes from.
    pub fn address(&self) -> IpAddr {
        self.0.address
    }
}

struct Entry {
    connections: Arc<Connections>,
    address: IpAddr,
}

/// Where a request comes from, as the handlers of the request find it.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

/// Why a connection is not taken.
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
        Arc::new(Self { most, most_per_address, open: Mutex::default() })
    }

    /// Counts one more connection from `address`, until the answer and its clones are dropped.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Guard, Refused> {
        let address = client_address(address);
        let mut open = self.open.lock();
        if open.all >= self.most {
            return Err(Refused::Full);
        }
        let here = open.by_address.entry(address).or_default();
        if *here >= self.most_per_address {
            return Err(Refused::FullForAddress);
        }
        *here += 1;
        open.all += 1;
        Ok(Guard(Arc::new(Entry { connections: self.clone(), address })))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.all -= 1;
        if let Some(here) = open.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// How many bytes a connection has written.
#[derive(Debug, Default)]
pub struct Meter(AtomicU64);

impl Meter {
    pub fn written(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A connection that counts what it writes, and fails when its client takes none of it for too long.
pub struct Watched<S> {
    stream: S,
    meter: Arc<Meter>,
    patience: Duration,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    /// `patience` is how long a client may take nothing of what it is sent.
    pub fn new(stream: S, patience: Duration) -> (Self, Arc<Meter>) {
        let meter = Arc::<Meter>::default();
        (Self { stream, meter: meter.clone(), patience, stalled: None }, meter)
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
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
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
    fn connections_are_counted_in_all_and_by_address() {
        let address = |last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
        let connections = Connections::new(3, 2);
        let first = connections.enter(address(1)).unwrap();
        let _second = connections.enter(address(1)).unwrap();
        assert_eq!(connections.enter(address(1)).err(), Some(Refused::FullForAddress));
        let _third = connections.enter(address(2)).unwrap();
        assert_eq!(connections.enter(address(3)).err(), Some(Refused::Full));
        drop(first.clone());
        assert_eq!(connections.enter(address(3)).err(), Some(Refused::Full));
        drop(first);
        assert!(connections.enter(address(1)).is_ok());
        assert!(connections.open.lock().by_address.len() == 2);
    }
}
