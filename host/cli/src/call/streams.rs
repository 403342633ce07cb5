//! stdin, stdout and stderr of a call at the terminal, each with a thread of its own.

use super::{super::output, Input};
use bytes::Bytes;
use distillery_client::conversation::Speaker;
use std::{
    io::{self, ErrorKind, Read, Write},
    thread,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// The size of a read from stdin, and of a frame. Every server accepts this size unless its operator has lowered
/// `http.max_frame` further.
const READ_CHUNK: usize = 32 << 10;
/// The number of pieces of output that wait for the reader of stdout.
const WAITING_PIECES: usize = 4;

/// Sends stdin to the call, as fast as the server accepts it.
pub(super) fn feed(mut speaker: Speaker, input: Input) {
    if input == Input::Theirs {
        return;
    }
    let (pieces, mut waiting) = mpsc::channel::<Bytes>(1);
    thread::spawn(move || read(&pieces));
    tokio::spawn(async move {
        while let Some(piece) = waiting.recv().await {
            speaker.give(piece).await;
        }
        speaker.end().await;
    });
}

fn read(pieces: &mpsc::Sender<Bytes>) {
    let mut buffer = vec![0; READ_CHUNK];
    loop {
        match io::stdin().lock().read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                if pieces.blocking_send(Bytes::copy_from_slice(&buffer[..read])).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                output::error(format_args!("cannot read stdin: {error}"));
                return;
            }
        }
    }
}

/// stdout or stderr, written by a thread, so that its reader can be slow.
pub(super) struct Output {
    /// `None` once the stream has no reader.
    pieces: Option<mpsc::Sender<Piece>>,
    pub failed: CancellationToken,
    done: oneshot::Receiver<io::Result<()>>,
}

enum Piece {
    Bytes(Bytes),
    /// Answered when all earlier pieces are written.
    Mark(oneshot::Sender<()>),
}

impl Output {
    pub fn start(mut to: impl Write + Send + 'static) -> Self {
        let (pieces, mut waiting) = mpsc::channel::<Piece>(WAITING_PIECES);
        let (done, wait) = oneshot::channel();
        let failed = CancellationToken::new();
        let fails = failed.clone();
        thread::spawn(move || {
            let written = loop {
                match waiting.blocking_recv() {
                    None => break Ok(()),
                    // After a signal, the client does not wait for the answer.
                    Some(Piece::Mark(written)) => _ = written.send(()),
                    Some(Piece::Bytes(bytes)) => {
                        if let Err(error) = to.write_all(&bytes).and_then(|()| to.flush()) {
                            fails.cancel();
                            break Err(error);
                        }
                    }
                }
            };
            // After a second signal, the result is not needed.
            let _ = done.send(written);
        });
        Self { pieces: Some(pieces), failed, done: wait }
    }

    pub fn is_closed(&self) -> bool {
        self.pieces.is_none()
    }

    pub fn close(&mut self) {
        self.pieces = None;
    }

    /// Waits until one more piece fits, or the stream has no reader.
    pub async fn room(&self) {
        if let Some(pieces) = &self.pieces {
            let _ = pieces.reserve().await;
        }
    }

    /// Queues a piece. Call after [`Self::room`].
    pub fn give(&self, bytes: Bytes) {
        if let Some(pieces) = &self.pieces
            && let Err(mpsc::error::TrySendError::Full(_)) = pieces.try_send(Piece::Bytes(bytes))
        {
            unreachable!("an event is only taken when there is room");
        }
    }

    /// Waits until all pieces are written, and returns whether they were.
    pub async fn written(&self) -> bool {
        let Some(pieces) = &self.pieces else { return false };
        let (mark, written) = oneshot::channel();
        pieces.send(Piece::Mark(mark)).await.is_ok() && written.await.is_ok()
    }

    /// Waits until all pieces are written.
    pub async fn finish(mut self) -> io::Result<()> {
        self.pieces = None;
        self.done.await.unwrap_or(Ok(()))
    }
}
