//! One request and its answer.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use tokio::time::timeout;

use super::fault::{Code, Fault};
use super::priority::Urgency;
use super::request_stream::RequestStream;
use super::send_half::{SendHalf, head};
use super::turns::Turns;
use crate::access_log::Entry;
use crate::body::Body;
use crate::clients::Excess;
use crate::limits::{CHUNK_BYTES, HEADER_DEADLINE, QUIC_SEND_WINDOW, STALL};
use crate::listener::Context;
use crate::listener::driver::Connection;
use crate::listener::peer::Peer;

/// How long a viewer may take to end its request after it has the answer.
const REQUEST_END: Duration = Duration::from_secs(1);

/// Both halves of a request's stream, and what they belong to.
pub(super) struct Exchange<'a> {
    pub(super) request: RequestStream,
    pub(super) half: Arc<SendHalf>,
    pub(super) stream: u64,
    pub(super) turns: &'a Turns,
    /// It came before the handshake was over: it may be somebody's recording (RFC 8470).
    pub(super) early: bool,
    pub(super) connection: &'a Connection,
    pub(super) peer: &'a Peer,
    pub(super) context: &'a Context,
}

/// Why not all of an answer was sent.
enum Unsent {
    /// The viewer went away.
    Unwanted,
    /// It takes too little for too long, or the blob could not be completed or was taken down.
    Broken,
}

/// How long a viewer may take to acknowledge an answer of `length` bytes, of which no more are on their way than QUIC keeps.
fn patience(length: u64) -> Duration {
    let pieces = length.min(QUIC_SEND_WINDOW).div_ceil(CHUNK_BYTES as u64);
    STALL * u32::try_from(pieces.max(1)).unwrap_or(u32::MAX)
}

impl Exchange<'_> {
    /// Hears the request and answers it.
    pub(super) async fn run(mut self) {
        let head = timeout(HEADER_DEADLINE, self.request.head()).await;
        let sent = match head.unwrap_or(Err(Fault::Request(Code::RequestIncomplete))) {
            Ok(head) => self.answer(&head.parts).await,
            Err(fault) => {
                tracing::debug!(?fault, "request refused");
                self.peer.gave_up();
                match fault {
                    Fault::Connection(code) => return self.connection.close(code.into()),
                    Fault::Request(code) => {
                        self.request.stop(code);
                        return self.half.reset(code);
                    }
                    Fault::Gone => return self.half.reset(Code::RequestCancelled),
                    Fault::TooLarge => self.too_large().await,
                }
            }
        };
        match sent {
            // A viewer may end its side a moment after it has the answer, and some clients take it for a failure when told
            // not to bother (RFC 9114 §4.1). So hear it out, briefly.
            Ok(()) => match timeout(REQUEST_END, self.request.rest()).await {
                Ok(Err(Fault::Connection(code))) => self.connection.close(code.into()),
                Ok(Ok(()) | Err(Fault::Request(_) | Fault::TooLarge | Fault::Gone)) | Err(_) => {}
            },
            Err(unsent) => {
                if let Unsent::Unwanted = unsent {
                    self.peer.gave_up();
                }
                self.context.metrics.aborted(self.context.protocol);
                self.half.reset(Code::RequestCancelled);
            }
        }
    }

    async fn answer(&self, request: &Parts) -> Result<(), Unsent> {
        let (half, context) = (&self.half, self.context);
        if let Some(urgency) = Urgency::of(&request.headers) {
            half.set_urgency(urgency);
        }
        // Where it is now: connections move.
        let from = self.connection.remote_address().ip();
        let mut entry = context.access_log.begin(request, from, context.protocol);
        let response = tokio::select! {
            biased;
            response = self.respond(request, from) => response,
            // A viewer may leave while there is nothing to send yet. Before the end there is no other news on this side.
            _ = half.taken() => return Err(Unsent::Unwanted),
        };
        if let Some(entry) = &mut entry {
            entry.answered(&response);
        }
        let (parts, mut body) = response.into_parts();
        context.metrics.request(context.protocol, parts.status, parts.extensions.get().copied());
        let length = body.length();
        if length <= CHUNK_BYTES as u64 {
            half.set_small();
        }
        let mut revoked = pin!(body.revoked());
        let head = head(parts.status, &parts.headers, length);
        tokio::select! {
            biased;
            sent = self.send(head, &mut body, &mut entry) => sent?,
            _ = half.taken() => return Err(Unsent::Unwanted),
            () = &mut revoked => return Err(Unsent::Broken),
        }
        half.finish();
        tokio::select! {
            taken = self.taken(length) => taken?,
            // QUIC still has some of it.
            () = &mut revoked => return Err(Unsent::Broken),
        }
        if let Some(entry) = &mut entry {
            entry.complete();
        }
        Ok(())
    }

    async fn respond(&self, request: &Parts, from: IpAddr) -> Response<Body> {
        let edge = &self.context.edge;
        if self.early {
            // Not told that it asks for too much: others may ask in its name.
            if !(edge.takes_early(request) && self.peer.client.may_ask_early()) {
                return edge.too_early(request);
            }
        } else if !self.peer.may_ask() {
            self.context.metrics.excess(Excess::Requests);
            return edge.too_many(request);
        }
        edge.answer(request, from).await
    }

    /// Answers what is not even read.
    async fn too_large(&self) -> Result<(), Unsent> {
        let (status, context) = (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, self.context);
        let mut entry = context.refused(status, self.connection.remote_address().ip(), context.protocol);
        self.write(&mut [head(status, &HeaderMap::new(), 0)]).await?;
        self.half.finish();
        self.taken(0).await?;
        if let Some(entry) = &mut entry {
            entry.complete();
        }
        Ok(())
    }

    /// Waits until the viewer has all of an answer of `length` bytes.
    async fn taken(&self, length: u64) -> Result<(), Unsent> {
        match timeout(patience(length), self.half.taken()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Unsent::Unwanted),
            Err(_) => Err(Unsent::Broken),
        }
    }

    /// Sends head and content; both at once, where content is there.
    async fn send(&self, head: Bytes, body: &mut Body, entry: &mut Option<Entry>) -> Result<(), Unsent> {
        let turn = self.turns.of(self.stream);
        let mut pieces = [head, Bytes::new()];
        loop {
            let next = match poll_fn(|cx| Poll::Ready(body.poll_next(cx))).await {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    turn.rest();
                    // The head does not wait.
                    self.write(&mut pieces).await?;
                    poll_fn(|cx| body.poll_next(cx)).await
                }
            };
            let Some(piece) = next else { return self.write(&mut pieces).await };
            pieces[1] = piece.map_err(|_| Unsent::Broken)?;
            let bytes = pieces[1].len();
            turn.take(self.half.urgency()).await;
            {
                let _writing = self.peer.writing();
                self.write(&mut pieces).await?;
            }
            self.peer.took(bytes);
            if let Some(entry) = entry {
                entry.took(bytes);
            }
            self.context.metrics.sent(self.context.protocol, bytes);
        }
    }

    async fn write(&self, pieces: &mut [Bytes]) -> Result<(), Unsent> {
        match timeout(STALL, self.half.write(pieces)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Unsent::Unwanted),
            Err(_) => Err(Unsent::Broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_a_piece_in_time_gets_the_end_too() {
        for length in [0, 1, CHUNK_BYTES as u64, CHUNK_BYTES as u64 + 1, QUIC_SEND_WINDOW, u64::MAX] {
            let on_their_way = length.min(QUIC_SEND_WINDOW) as f64;
            let takes = STALL.mul_f64(on_their_way / CHUNK_BYTES as f64);
            assert!(patience(length) >= takes.max(STALL), "{length}");
        }
        assert_eq!(patience(u64::MAX), patience(QUIC_SEND_WINDOW));
    }
}
