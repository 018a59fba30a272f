//! Unidirectional streams that a client opens (RFC 9114 §6.2, RFC 9204 §4.2).
//!
//! Control streams, and those of kinds that nobody knows, are the HTTP/3 layer's. Where nothing is pushed and there is no dynamic
//! table, next to nothing may be said on the others; that layer would let anything pass, so they are looked at here.

use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use h3::error::Code;
use quinn::{ConnectionError, ReadError};

use super::control_stream::number;
use super::h3_streams::{Accepting, varint};
use crate::limits::H3_CONTROL_STREAM_BYTES;

const PUSH: u64 = 0x01;
const ENCODER: u64 = 0x02;
const DECODER: u64 = 0x03;

/// The streams that a client has opened.
pub(super) struct ClientStreams {
    connection: quinn::Connection,
    accepting: Accepting<quinn::RecvStream>,
    begun: Vec<Beginning>,
    encoder: Option<QpackStream>,
    decoder: Option<QpackStream>,
}

/// A stream whose kind has not come yet.
struct Beginning {
    stream: quinn::RecvStream,
    read: BytesMut,
}

/// A stream of QPACK's own.
struct QpackStream {
    stream: quinn::RecvStream,
    /// Read with its kind.
    read: Bytes,
    side: Side,
    /// Bytes it may still bring.
    allowance: u64,
}

/// What is said on a stream of QPACK's own without a dynamic table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// That the table has no room (RFC 9204 §4.3.1).
    Encoder,
    /// That streams were given up (RFC 9204 §4.4.2).
    Decoder {
        /// In the middle of a stream's number.
        within: bool,
    },
}

impl ClientStreams {
    pub(super) fn new(connection: quinn::Connection, accepting: Accepting<quinn::RecvStream>) -> Self {
        Self { connection, accepting, begun: Vec::new(), encoder: None, decoder: None }
    }

    /// The next stream for the HTTP/3 layer, and what was read of it. Ends the connection where something is said that may
    /// not be.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(quinn::RecvStream, Bytes), ConnectionError>> {
        while let Poll::Ready(accepted) = self.accepting.poll_next_unpin(cx) {
            let stream = accepted.unwrap_or(Err(ConnectionError::LocallyClosed))?;
            self.begun.push(Beginning { stream, read: BytesMut::new() });
        }
        let mut at = 0;
        while let Some(beginning) = self.begun.get_mut(at) {
            let Poll::Ready(kind) = beginning.poll_kind(cx) else {
                at += 1;
                continue;
            };
            let Beginning { stream, read } = self.begun.swap_remove(at);
            let is_too_many = match kind {
                // RFC 9114 §6.2: whoever ends before its kind has come is nobody.
                None => false,
                Some(PUSH) => true,
                Some(ENCODER) => {
                    self.encoder.replace(QpackStream::new(stream, read, Side::Encoder)).is_some()
                }
                Some(DECODER) => {
                    let side = Side::Decoder { within: false };
                    self.decoder.replace(QpackStream::new(stream, read, side)).is_some()
                }
                Some(_) => return Poll::Ready(Ok((stream, read.freeze()))),
            };
            if is_too_many {
                return forbid(&self.connection, Code::H3_STREAM_CREATION_ERROR);
            }
        }
        for stream in [&mut self.encoder, &mut self.decoder].into_iter().flatten() {
            if let Poll::Ready(fault) = stream.poll_fault(cx) {
                return forbid(&self.connection, fault);
            }
        }
        Poll::Pending
    }
}

fn forbid<T>(connection: &quinn::Connection, fault: Code) -> Poll<Result<T, ConnectionError>> {
    connection.close(varint(fault.value()), b"");
    Poll::Ready(Err(ConnectionError::LocallyClosed))
}

impl Beginning {
    /// Which kind of stream it is; `None` of one that is over.
    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        loop {
            if let Some((kind, _)) = number(&self.read) {
                return Poll::Ready(Some(kind));
            }
            match ready!(pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx)) {
                Ok(Some(chunk)) => self.read.extend_from_slice(&chunk.bytes),
                Ok(None) | Err(_) => return Poll::Ready(None),
            }
        }
    }
}

impl QpackStream {
    /// `read` begins with the kind, of one byte.
    fn new(stream: quinn::RecvStream, read: BytesMut, side: Side) -> Self {
        Self { stream, read: read.freeze().slice(1..), side, allowance: H3_CONTROL_STREAM_BYTES }
    }

    /// Completes when something is said that may not be.
    fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<Code> {
        loop {
            let bytes = std::mem::take(&mut self.read);
            match self.allowance.checked_sub(bytes.len() as u64) {
                Some(left) => self.allowance = left,
                None => return Poll::Ready(Code::H3_EXCESSIVE_LOAD),
            }
            if let Some(fault) = bytes.iter().find_map(|byte| self.side.fault(*byte)) {
                return Poll::Ready(fault);
            }
            match ready!(pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx)) {
                Ok(Some(chunk)) => self.read = chunk.bytes,
                // The connection's end is told elsewhere.
                Err(ReadError::ConnectionLost(_)) => return Poll::Pending,
                // RFC 9204 §4.2
                Ok(None) | Err(_) => return Poll::Ready(Code::H3_CLOSED_CRITICAL_STREAM),
            }
        }
    }
}

impl Side {
    /// Takes the next byte.
    fn fault(&mut self, byte: u8) -> Option<Code> {
        match self {
            // Set Dynamic Table Capacity, to nothing.
            Self::Encoder => (byte != 0x20).then_some(Code::QPACK_ENCODER_STREAM_ERROR),
            // A prefix of six bits, then as many bytes as say that more follow (RFC 7541 §5.1).
            Self::Decoder { within: true } => {
                *self = Self::Decoder { within: byte & 0x80 != 0 };
                None
            }
            // Stream Cancellation. Nothing was inserted that could be told of, and no section needs any of it.
            Self::Decoder { within: false } if byte & 0xc0 == 0x40 => {
                *self = Self::Decoder { within: byte & 0x3f == 0x3f };
                None
            }
            Self::Decoder { within: false } => Some(Code::QPACK_DECODER_STREAM_ERROR),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_no_table_may_be_said() {
        let fault = |mut side: Side, bytes: &[u8]| bytes.iter().find_map(|byte| side.fault(*byte));
        let decoder = Side::Decoder { within: false };
        assert_eq!(fault(Side::Encoder, &[0x20, 0x20]), None);
        for insertion in [0x21, 0x3f, 0xc0, 0x40, 0x00] {
            assert_eq!(fault(Side::Encoder, &[0x20, insertion]), Some(Code::QPACK_ENCODER_STREAM_ERROR));
        }
        // Streams 4, 62, 63, 190 and 191.
        assert_eq!(fault(decoder, &[0x44, 0x7e, 0x7f, 0x00, 0x7f, 0x7f, 0x7f, 0x80, 0x01]), None);
        for told in [0x00, 0x01, 0x80, 0xff] {
            assert_eq!(fault(decoder, &[0x7f, 0x80, 0x01, told]), Some(Code::QPACK_DECODER_STREAM_ERROR));
        }
    }
}
