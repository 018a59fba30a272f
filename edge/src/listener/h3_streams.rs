//! QUIC streams for the HTTP/3 layer, over quinn.
//!
//! The ready-made adapter of the `h3` project copies each body into quinn, reads without bound, and has no word for
//! "the peer has everything". Here bodies go by reference ([`SendHalf::write_content`]), a stream's bytes are counted,
//! and a response is over when it is acknowledged ([`SendHalf::acknowledged`]), so that a drain loses nothing.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt, stream};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use super::client_streams::ClientStreams;
use super::control_stream::Tap;
use super::priority::Priorities;
use super::send_half::SendHalf;
use crate::limits::{H3_CONTROL_STREAM_BYTES, H3_REQUEST_STREAM_BYTES};

pub(super) type Accepting<T> = Pin<Box<dyn Stream<Item = Result<T, ConnectionError>> + Send>>;
type Pair = (quinn::SendStream, quinn::RecvStream);

/// The sending half of the request stream that was accepted last.
///
/// The HTTP/3 layer accepts one stream per request it hands out, so after each of its `accept` calls this is that
/// request's.
#[derive(Clone, Default)]
pub(crate) struct LastAccepted(Arc<Mutex<Option<Arc<SendHalf>>>>);

impl LastAccepted {
    pub(crate) fn take(&self) -> Option<Arc<SendHalf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, half: Arc<SendHalf>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(half);
    }
}

/// A QUIC connection as the HTTP/3 layer sees it.
pub(crate) struct Connection {
    inner: quinn::Connection,
    requests: Accepting<Pair>,
    unidirectional: ClientStreams,
    opener: Opener,
    last: LastAccepted,
    priorities: Arc<Priorities>,
}

impl Connection {
    pub(crate) fn new(inner: quinn::Connection, last: LastAccepted) -> Self {
        let requests = stream::unfold(inner.clone(), |c| async { Some((c.accept_bi().await, c)) });
        let unidirectional = stream::unfold(inner.clone(), |c| async { Some((c.accept_uni().await, c)) });
        let opener = Opener { inner: inner.clone(), bidirectional: None, unidirectional: None };
        let unidirectional = ClientStreams::new(inner.clone(), Box::pin(unidirectional));
        let priorities = Arc::default();
        Self { inner, requests: Box::pin(requests), unidirectional, opener, last, priorities }
    }
}

impl quic::Connection<Bytes> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = Opener;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        let (stream, read) = ready!(self.unidirectional.poll_next(cx)).map_err(connection_error)?;
        let tap = Some((self.inner.clone(), Tap::new(self.priorities.clone())));
        Poll::Ready(Ok(RecvStream::new(stream, read, H3_CONTROL_STREAM_BYTES, tap)))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, ConnectionErrorIncoming>> {
        let accepted = ready!(self.requests.poll_next_unpin(cx));
        let pair = accepted.unwrap_or(Err(ConnectionError::LocallyClosed)).map_err(connection_error)?;
        let stream = BidiStream::new(pair);
        self.priorities.open(stream.send.half.id().into_inner(), &stream.send.half);
        self.last.put(stream.send.half.clone());
        Poll::Ready(Ok(stream))
    }

    fn opener(&self) -> Opener {
        Opener { inner: self.inner.clone(), bidirectional: None, unidirectional: None }
    }
}

impl quic::OpenStreams<Bytes> for Connection {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.opener.close(code, reason);
    }
}

/// Opens the streams that a server opens: control and QPACK.
pub(crate) struct Opener {
    inner: quinn::Connection,
    bidirectional: Option<Accepting<Pair>>,
    unidirectional: Option<Accepting<quinn::SendStream>>,
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        let opening = self.bidirectional.get_or_insert_with(|| {
            Box::pin(stream::unfold(self.inner.clone(), |c| async { Some((c.open_bi().await, c)) }))
        });
        let opened = ready!(opening.poll_next_unpin(cx)).unwrap_or(Err(ConnectionError::LocallyClosed));
        Poll::Ready(opened.map(BidiStream::new).map_err(stream_connection_error))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        let opening = self.unidirectional.get_or_insert_with(|| {
            Box::pin(stream::unfold(self.inner.clone(), |c| async { Some((c.open_uni().await, c)) }))
        });
        let opened = ready!(opening.poll_next_unpin(cx)).unwrap_or(Err(ConnectionError::LocallyClosed));
        Poll::Ready(opened.map(|stream| SendStream::new(stream, false)).map_err(stream_connection_error))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.inner.close(varint(code.value()), reason);
    }
}

/// A request stream.
pub(crate) struct BidiStream {
    send: SendStream,
    recv: RecvStream,
}

impl BidiStream {
    fn new((send, recv): Pair) -> Self {
        let early = recv.is_0rtt();
        Self {
            send: SendStream::new(send, early),
            recv: RecvStream::new(recv, Bytes::new(), H3_REQUEST_STREAM_BYTES, None),
        }
    }
}

impl quic::BidiStream<Bytes> for BidiStream {
    type SendStream = SendStream;
    type RecvStream = RecvStream;

    fn split(self) -> (SendStream, RecvStream) {
        (self.send, self.recv)
    }
}

impl quic::RecvStream for BidiStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.recv.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}

impl quic::SendStream<Bytes> for BidiStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

/// A receiving stream that gives up after so many bytes.
pub(crate) struct RecvStream {
    inner: quinn::RecvStream,
    /// What was read of it before.
    read: Bytes,
    /// Bytes it may still bring.
    allowance: u64,
    id: StreamId,
    ended: bool,
    /// Reads along where a client may be speaking of the connection.
    tap: Option<(quinn::Connection, Tap)>,
}

impl RecvStream {
    fn new(
        inner: quinn::RecvStream,
        read: Bytes,
        allowance: u64,
        tap: Option<(quinn::Connection, Tap)>,
    ) -> Self {
        let id = stream_id(inner.id());
        Self { inner, read, allowance, id, ended: false, tap }
    }

    /// Cancel-safe, as reading is: a new future takes up where the last one was dropped.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        if !self.read.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.read))));
        }
        let chunk = ready!(pin!(self.inner.read_chunk(usize::MAX, true)).poll(cx))?;
        Poll::Ready(Ok(chunk.map(|chunk| chunk.bytes)))
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let chunk = match ready!(self.poll_chunk(cx)).map_err(read_error) {
            Ok(Some(chunk)) => chunk,
            Ok(None) => {
                self.ended = true;
                return Poll::Ready(Ok(None));
            }
            Err(error) => {
                self.ended = true;
                return Poll::Ready(Err(error));
            }
        };
        match self.allowance.checked_sub(chunk.len() as u64) {
            Some(left) => {
                self.allowance = left;
                if let Some((connection, tap)) = &mut self.tap
                    && let Err(fault) = tap.read(&chunk)
                {
                    connection.close(varint(fault.value()), b"");
                    return Poll::Ready(Err(stream_connection_error(ConnectionError::LocallyClosed)));
                }
                Poll::Ready(Ok(Some(chunk)))
            }
            None => {
                let code = Code::H3_EXCESSIVE_LOAD.value();
                self.stop_sending(code);
                Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code: code }))
            }
        }
    }

    fn stop_sending(&mut self, code: u64) {
        self.ended = true;
        // An error means that the stream is over already.
        let _ = self.inner.stop(varint(code));
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        if !self.ended {
            // RFC 9114 §4.1: a server that does not need the rest of a request says so with this code.
            let _ = self.inner.stop(varint(Code::H3_NO_ERROR.value()));
        }
    }
}

/// A sending stream as the HTTP/3 layer sees it; it writes control frames and what refuses too large a header section.
pub(crate) struct SendStream {
    half: Arc<SendHalf>,
    writing: Option<WriteBuf<Bytes>>,
}

impl SendStream {
    fn new(stream: quinn::SendStream, early: bool) -> Self {
        Self { half: Arc::new(SendHalf::new(stream, early)), writing: None }
    }
}

impl quic::SendStream<Bytes> for SendStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if let Some(data) = &mut self.writing {
            while data.has_remaining() {
                let mut state = self.half.lock();
                let written = ready!(state.poll_write(cx, data.chunk())).map_err(write_error)?;
                data.advance(written);
            }
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        let ended = self.half.lock().end();
        Poll::Ready(ended.map_err(|error| StreamErrorIncoming::Unknown(Box::new(error))))
    }

    fn reset(&mut self, code: u64) {
        self.half.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.half.id()
    }
}

pub(super) fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

pub(super) fn stream_id(id: quinn::StreamId) -> StreamId {
    StreamId::try_from(u64::from(VarInt::from(id)))
        .unwrap_or_else(|_| unreachable!("both are the 62-bit number of RFC 9000 §2.1"))
}

fn connection_error(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::Reset
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}

fn stream_connection_error(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error: connection_error(error) }
}

fn read_error(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        ReadError::ConnectionLost(error) => stream_connection_error(error),
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
            StreamErrorIncoming::Unknown(Box::new(error))
        }
    }
}

fn write_error(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        WriteError::ConnectionLost(error) => stream_connection_error(error),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => {
            StreamErrorIncoming::Unknown(Box::new(error))
        }
    }
}
