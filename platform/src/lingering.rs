//! A TCP stream whose end loses nothing that was sent.
//!
//! A kernel that is told to close a socket with unread bytes, or gets bytes for it afterwards, resets the connection, and
//! what the peer had not yet read is lost (RFC 9112 §9.6). Peers do send then: HTTP/2 window updates as they read, or a
//! request body that nobody wants.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// Most bytes that are read and dropped meanwhile: what a client may have had on its way of a body that is refused.
const LINGER_BYTES: usize = 16 << 20;

/// Shutting it down sends what is left and the end, then reads and drops until the peer has closed as well.
#[derive(Debug)]
pub struct Lingering {
    stream: TcpStream,
    patience: Duration,
    written_at: Option<Instant>,
    end: End,
}

#[derive(Debug)]
enum End {
    NotYet,
    Sent { deadline: Pin<Box<Sleep>>, allowance: usize },
    Over,
}

impl Lingering {
    /// `patience` is how long after our last byte the peer may take to read it and close.
    pub fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, patience, written_at: None, end: End::NotYet }
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = written {
            self.written_at = Some(Instant::now());
        }
        written
    }

    /// Reads and drops; ready when the peer has closed or had its time.
    fn poll_drop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let End::Sent { deadline, allowance } = &mut self.end else { return Poll::Ready(()) };
        let mut space = [0; 4096];
        loop {
            if deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut dropped = ReadBuf::new(&mut space);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut dropped));
            *allowance = allowance.saturating_sub(dropped.filled().len());
            if read.is_err() || dropped.filled().is_empty() || *allowance == 0 {
                return Poll::Ready(());
            }
        }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let End::NotYet = self.end {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.end = match self.written_at {
                Some(at) => {
                    let deadline = Box::pin(sleep_until(at + self.patience));
                    End::Sent { deadline, allowance: LINGER_BYTES }
                }
                // Nothing can be lost.
                None => End::Over,
            };
        }
        ready!(self.poll_drop(cx));
        self.end = End::Over;
        Poll::Ready(Ok(()))
    }
}
