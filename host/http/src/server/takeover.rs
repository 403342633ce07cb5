//! Replaces a running server without a gap: the listening sockets themselves are passed on, over a private socket in
//! the `data` directory.
//!
//! The old server continues until the new one has loaded everything and accepts connections. Only then does it retire.
//! An earlier failure leaves the old server as it was. Connections in a socket's queue are not lost, because the socket
//! stays the same. The protocol consists of single letters:
//!
//! | old | new | meaning |
//! | --- | --- | --- |
//! | `A` to `H` | | sends the clients' socket, the operator's if there is one, and which of them are managed |
//! | `h`, `o` | | the same from an older server, without the managed sockets |
//! | | `t` | is about to take over, and asks for the directory |
//! | `y` | | leaves the directory to the new server |
//! | | `s` | serves |

use super::local::{CannotControl, Local, bind_owned};
use crate::platform;
use parking_lot::Mutex;
use rustix::process::{Uid, geteuid};
use std::{
    collections::VecDeque,
    fs,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener},
    os::{fd::AsFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::sync::oneshot;

/// The file name of the socket in the `data` directory.
const SOCKET: &str = "takeover.sock";
/// The timeout for immediate steps of the other side.
const AT_ONCE: Duration = Duration::from_secs(30);
/// The time that a server with the directory has until it serves. Another waiting server waits longer.
const UNTIL_SERVING: Duration = Duration::from_secs(10);
/// The maximum number of servers that load their plugins for a takeover; a further one displaces the first.
const CANDIDATES: usize = 4;

/// The first of eight letters; the bits name the sockets that follow.
const LISTENERS: u8 = b'A';
const WITH_OPERATOR: u8 = 1;
const MANAGED_CLIENTS: u8 = 2;
const MANAGED_OPERATOR: u8 = 4;
/// The letters of older servers.
const OLDER: [u8; 2] = [b'h', b'o'];
const TAKE: u8 = b't';
const YOURS: u8 = b'y';
const SERVING: u8 = b's';

/// The sockets that one server passes to another.
#[derive(Debug)]
pub struct Listeners {
    pub clients: TcpListener,
    pub operator: Option<TcpListener>,
    pub managed: Managed,
}

/// The listening sockets that a service manager has opened, in contrast to those opened by configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Managed {
    pub clients: bool,
    pub operator: bool,
}

impl Managed {
    fn letter(self, operator: bool) -> u8 {
        let bits = [(operator, WITH_OPERATOR), (self.clients, MANAGED_CLIENTS), (self.operator, MANAGED_OPERATOR)];
        bits.into_iter().filter(|(set, _)| *set).fold(LISTENERS, |letter, (_, bit)| letter + bit)
    }

    /// Decodes a letter of this kind.
    fn of(letter: u8) -> Option<Self> {
        if OLDER.contains(&letter) {
            // Unknown for older servers, so the sockets stay as they are.
            return Some(Self { clients: true, operator: true });
        }
        let bits = letter.checked_sub(LISTENERS).filter(|bits| *bits < 8)?;
        Some(Self { clients: bits & MANAGED_CLIENTS != 0, operator: bits & MANAGED_OPERATOR != 0 })
    }
}

/// A running server that is about to be replaced.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

#[derive(Debug, thiserror::Error)]
pub enum CannotTakeOver {
    #[error("{0}")]
    NotHere(&'static str),
    #[error("no server is running here that could be taken over ({0}): start without --takeover")]
    NoServer(io::Error),
    #[error("the server that runs does not hand over: {0}; see its log")]
    NotHandedOver(io::Error),
    #[error(transparent)]
    Directory(#[from] CannotControl),
}

/// Returns whether a server can take over from another one on this system.
pub fn is_possible() -> Result<(), CannotTakeOver> {
    platform::no_takeover().map_or(Ok(()), |why| Err(CannotTakeOver::NotHere(why)))
}

impl Predecessor {
    /// Asks the server of the directory `data` for its sockets. That server continues as before.
    pub fn ask(data: &Path) -> Result<(Self, Listeners), CannotTakeOver> {
        is_possible()?;
        let stream = UnixStream::connect(data.join(SOCKET)).map_err(CannotTakeOver::NoServer)?;
        let set = stream.set_read_timeout(Some(AT_ONCE)).and_then(|()| stream.set_write_timeout(Some(AT_ONCE)));
        let listeners = set.and_then(|()| receive(&stream)).map_err(CannotTakeOver::NotHandedOver)?;
        Ok((Self(stream), listeners))
    }

    /// Takes the directory over. From here on the old server waits for [`Predecessor::retire`].
    pub fn take(&mut self, data: &Path) -> Result<Local, CannotTakeOver> {
        let taken = self.0.write_all(&[TAKE]).and_then(|()| expect(&mut self.0, YOURS));
        taken.map_err(CannotTakeOver::NotHandedOver)?;
        Ok(Local::bind(data)?)
    }

    /// Tells the old server that this one accepts connections, so that the old one accepts no more.
    pub fn retire(mut self) {
        if let Err(error) = self.0.write_all(&[SERVING]) {
            // The old server has already ended.
            tracing::warn!(%error, "the previous server has already ended");
        }
    }
}

/// A running server's offer to a successor.
#[derive(Debug)]
pub struct Offer {
    path: PathBuf,
    shared: Arc<Shared>,
    taken: oneshot::Receiver<Option<u32>>,
}

/// State shared by the threads that talk to candidates.
#[derive(Debug)]
struct Shared {
    local: Arc<Local>,
    listeners: Mutex<Option<Listeners>>,
    /// Held by the one candidate that gets the directory. `None` after a takeover.
    told: Mutex<Option<oneshot::Sender<Option<u32>>>>,
    waiting: Mutex<Waiting>,
}

/// Candidates that load their plugins, oldest first.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    streams: VecDeque<(u64, UnixStream)>,
}

impl Offer {
    /// Waits for a successor, on threads of its own. There is never one where none is possible.
    pub fn make(data: &Path, listeners: Listeners, local: Arc<Local>) -> io::Result<Self> {
        let path = data.join(SOCKET);
        let listener = is_possible().is_ok().then(|| bind_owned(data, &path)).transpose()?;
        let (told, taken) = oneshot::channel();
        let shared = Arc::new(Shared {
            local,
            listeners: Mutex::new(Some(listeners)),
            told: Mutex::new(Some(told)),
            waiting: Mutex::default(),
        });
        let offer = Self { path, shared: shared.clone(), taken };
        let Some(listener) = listener else { return Ok(offer) };
        // The thread ends with the process.
        thread::Builder::new().name("takeover".into()).spawn(move || {
            for stream in listener.incoming() {
                let speaking = stream.and_then(|stream| {
                    let shared = shared.clone();
                    let ticket = shared.waiting.lock().enter(&stream)?;
                    // A thread for each candidate: a hung one does not delay the next.
                    thread::Builder::new().name("candidate".into()).spawn(move || shared.speak(stream, ticket))
                });
                if let Err(error) = speaking {
                    tracing::warn!(%error, "cannot talk to a takeover candidate");
                    thread::sleep(Duration::from_millis(50));
                }
            }
        })?;
        Ok(offer)
    }

    /// Waits for a takeover and returns the process ID of the successor.
    pub async fn taken(&mut self) -> Option<u32> {
        (&mut self.taken).await.ok().flatten()
    }

    /// Withdraws the offer, because a socket that another process holds would stay open. A successor that already has
    /// the directory continues.
    pub fn withdraw(&self) {
        self.shared.listeners.lock().take();
        if !self.shared.local.is_given_up() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Shared {
    fn speak(&self, stream: UnixStream, ticket: u64) {
        if let Err(error) = self.hand_over(stream, ticket) {
            tracing::warn!(%error, "takeover failed: this server goes on");
        }
        self.waiting.lock().leave(ticket);
    }

    fn hand_over(&self, mut stream: UnixStream, ticket: u64) -> io::Result<()> {
        let peer = platform::peer_process(&stream)?;
        if ![geteuid(), Uid::ROOT].contains(&peer.user) {
            return Err(io::Error::other("the other server belongs to another user"));
        }
        stream.set_write_timeout(Some(AT_ONCE))?;
        match &*self.listeners.lock() {
            Some(listeners) => send(&stream, listeners)?,
            None => return Err(io::Error::other("it ends, and listens no more")),
        }
        let successor = peer.id;
        tracing::info!(successor, "another server is preparing to take over");
        // The candidate now loads its plugins, without a time limit.
        expect(&mut stream, TAKE)?;
        // From here on the candidate cannot be displaced.
        self.waiting.lock().leave(ticket);
        let mut told = self.told.lock();
        let Some(tell) = told.take() else { return Err(io::Error::other("another server was quicker")) };
        if let Err(error) = self.give(&mut stream) {
            *told = Some(tell);
            return Err(error);
        }
        self.listeners.lock().take();
        // The receiver can be gone already.
        let _ = tell.send(successor);
        Ok(())
    }

    /// Passes the directory on, and takes it back unless the other server serves soon.
    fn give(&self, stream: &mut UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(UNTIL_SERVING))?;
        self.local.give_up();
        let served = stream.write_all(&[YOURS]).and_then(|()| expect(stream, SERVING));
        if served.is_err()
            && let Err(error) = self.local.take_back()
        {
            tracing::error!(%error, "the control socket is lost; restart this server");
        }
        served
    }
}

impl Waiting {
    /// Adds a candidate in order of connection. Displaces the oldest if there are too many.
    fn enter(&mut self, stream: &UnixStream) -> io::Result<u64> {
        let ticket = self.next;
        self.next += 1;
        self.streams.push_back((ticket, stream.try_clone()?));
        if self.streams.len() > CANDIDATES
            && let Some((_, first)) = self.streams.pop_front()
        {
            // Its thread sees the end of its socket.
            let _ = first.shutdown(Shutdown::Both);
        }
        Ok(ticket)
    }

    fn leave(&mut self, ticket: u64) {
        self.streams.retain(|(it, _)| *it != ticket);
    }
}

fn expect(stream: &mut UnixStream, wanted: u8) -> io::Result<()> {
    let mut letter = [0];
    stream.read_exact(&mut letter)?;
    if letter[0] == wanted {
        Ok(())
    } else {
        Err(io::Error::other("it speaks another language: is it much older or newer?"))
    }
}

fn send(stream: &UnixStream, listeners: &Listeners) -> io::Result<()> {
    let mut files = vec![listeners.clients.as_fd()];
    files.extend(listeners.operator.as_ref().map(AsFd::as_fd));
    platform::send_files(stream, listeners.managed.letter(listeners.operator.is_some()), &files)
}

fn receive(stream: &UnixStream) -> io::Result<Listeners> {
    let (letter, files) = platform::receive_files(stream)?;
    let mut files = files.into_iter().map(TcpListener::from);
    let managed = letter.and_then(Managed::of);
    let (clients, managed) = files.next().zip(managed).ok_or_else(|| io::Error::other("it has sent no socket"))?;
    Ok(Listeners { clients, operator: files.next(), managed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn listeners() -> Listeners {
        Listeners { clients: TcpListener::bind("127.0.0.1:0").unwrap(), operator: None, managed: Managed::default() }
    }

    #[test]
    fn successor_learns_which_sockets_are_managed() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        for (clients, operator, with_operator) in
            [(false, false, false), (true, false, false), (true, true, true), (false, true, true), (true, false, true)]
        {
            let managed = Managed { clients, operator };
            let operator = with_operator.then(|| TcpListener::bind("127.0.0.1:0").unwrap());
            send(&ours, &Listeners { operator, managed, ..listeners() }).unwrap();
            let received = receive(&theirs).unwrap();
            assert_eq!((received.managed, received.operator.is_some()), (managed, with_operator));
        }
        assert_eq!(Managed::of(b'h'), Some(Managed { clients: true, operator: true }));
        assert_eq!([b'@', b'I', b't'].map(Managed::of), [None; 3]);
    }

    #[tokio::test]
    async fn same_socket_is_passed_on() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        let old = Arc::new(Local::bind(data).unwrap());
        let listeners = listeners();
        let address = listeners.clients.local_addr().unwrap();
        let mut offer = Offer::make(data, listeners, old.clone()).unwrap();
        // The connection waits in the queue of the socket, whichever server has that.
        let _client = TcpStream::connect(address).unwrap();
        let (mut predecessor, listeners) = Predecessor::ask(data).unwrap();
        assert!(listeners.operator.is_none());
        let new = predecessor.take(data).unwrap();
        predecessor.retire();
        assert_eq!(offer.taken().await, Some(std::process::id()));
        drop(old);
        assert!(data.join(super::super::local::SOCKET).exists(), "it is the new server's");
        listeners.clients.accept().unwrap();
        drop(new);
    }

    #[test]
    fn ending_server_stops_listening() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        let listeners = listeners();
        let address = listeners.clients.local_addr().unwrap();
        let offer = Offer::make(data, listeners, Arc::new(Local::bind(data).unwrap())).unwrap();
        TcpStream::connect(address).unwrap();
        offer.withdraw();
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(matches!(Predecessor::ask(data), Err(CannotTakeOver::NoServer(_))));
    }

    #[test]
    fn failed_takeover_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        let old = Arc::new(Local::bind(data).unwrap());
        let mut offer = Offer::make(data, listeners(), old.clone()).unwrap();
        drop(Predecessor::ask(data).unwrap());
        let (mut predecessor, _) = Predecessor::ask(data).unwrap();
        drop(predecessor.take(data).unwrap());
        drop(predecessor);
        // The thread of the previous candidate notices that the candidate is gone.
        while old.is_given_up() {
            thread::yield_now();
        }
        let again = Predecessor::ask(data).unwrap();
        assert!(offer.taken.try_recv().is_err());
        assert!(Local::bind(data).is_err(), "the directory is the old server's again");
        UnixStream::connect(data.join(super::super::local::SOCKET)).unwrap();
        drop(again);
    }

    #[tokio::test]
    async fn hung_candidates_do_not_block_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        let old = Arc::new(Local::bind(data).unwrap());
        let mut offer = Offer::make(data, listeners(), old).unwrap();
        // They have the sockets and never send anything; some do not even accept the sockets.
        let mut hung: Vec<_> = (0..CANDIDATES).map(|_| Predecessor::ask(data).unwrap()).collect();
        let _silent: Vec<_> = (0..CANDIDATES).map(|_| UnixStream::connect(data.join(SOCKET)).unwrap()).collect();
        let (mut predecessor, _listeners) = Predecessor::ask(data).unwrap();
        let _new = predecessor.take(data).unwrap();
        predecessor.retire();
        assert_eq!(offer.taken().await, Some(std::process::id()));
        // A later candidate displaced the first one, and the others were too late.
        for (predecessor, _) in &mut hung {
            assert!(matches!(predecessor.take(data), Err(CannotTakeOver::NotHandedOver(_))));
        }
    }
}
