//! The receiving half of a request's stream (RFC 9114 §4.1).

use bytes::Bytes;
use http::header;

use super::fault::{Code, Fault};
use super::frames::{Event, Frames, Kind};
use super::request_head::RequestHead;
use crate::limits::{H3_REQUEST_STREAM_BYTES, HEADER_SECTION_BYTES};
use crate::listener::driver::RecvStream;

/// A request as it comes in. Dropped before its end, it tells the client that the rest is not needed.
pub(super) struct RequestStream {
    stream: RecvStream,
    frames: Frames,
    /// Bytes it may still bring.
    allowance: u64,
    /// How long its content is to be, and how much of that there was.
    announced: Option<u64>,
    content: u64,
    has_trailers: bool,
    /// The client's side is over, or was stopped.
    ended: bool,
}

impl RequestStream {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            frames: Frames::new(Bytes::new()),
            allowance: H3_REQUEST_STREAM_BYTES,
            announced: None,
            content: 0,
            has_trailers: false,
            ended: false,
        }
    }

    /// Reads what is asked for. Where content is announced it is heard out first, for only with it is it known whether the
    /// request is well formed; more than is taken anyhow is not waited for, nor by those who wait for an answer themselves
    /// before they send it (RFC 9110 §10.1.1).
    pub(super) async fn head(&mut self) -> Result<RequestHead, Fault> {
        let head = loop {
            match self.next().await?.ok_or(Fault::Request(Code::RequestIncomplete))? {
                Event::Begin(Kind::Headers, length) if length > HEADER_SECTION_BYTES.into() => {
                    return Err(match length {
                        // There is an answer to one that is a little too long.
                        ..=H3_REQUEST_STREAM_BYTES => Fault::TooLarge,
                        _ => Fault::Request(Code::ExcessiveLoad),
                    });
                }
                Event::Begin(Kind::Headers, _) => self.frames.collect(),
                Event::Begin(Kind::Unknown, _) => {}
                Event::Begin(..) => return Err(Fault::Connection(Code::FrameUnexpected)),
                Event::Payload(_, section) => break RequestHead::read(&section)?,
            }
        };
        self.announced = head.content_length;
        let expects = head.parts.headers.contains_key(header::EXPECT);
        if !expects && self.announced.is_some_and(|length| length < H3_REQUEST_STREAM_BYTES) {
            self.rest().await?;
        }
        Ok(head)
    }

    /// Hears the request out. Nobody has a use for content or trailers here; without a dynamic table nothing hangs on reading
    /// their fields (RFC 9204 §2.2.2.2).
    pub(super) async fn rest(&mut self) -> Result<(), Fault> {
        if self.ended {
            return Ok(());
        }
        let malformed = Err(Fault::Request(Code::MessageError));
        while let Some(event) = self.next().await? {
            match event {
                Event::Begin(Kind::Data, length) if !self.has_trailers => {
                    self.content = self.content.saturating_add(length);
                    if self.announced.is_some_and(|announced| self.content > announced) {
                        return malformed;
                    }
                }
                Event::Begin(Kind::Headers, _) if !self.has_trailers => self.has_trailers = true,
                Event::Begin(Kind::Unknown, _) | Event::Payload(..) => {}
                Event::Begin(..) => return Err(Fault::Connection(Code::FrameUnexpected)),
            }
        }
        if self.announced.is_some_and(|announced| self.content != announced) { malformed } else { Ok(()) }
    }

    /// Tells the client to stop.
    pub(super) fn stop(&mut self, code: Code) {
        self.ended = true;
        self.stream.stop(code.into());
    }

    /// What comes next; `None` at the end. A dropped future loses nothing.
    async fn next(&mut self) -> Result<Option<Event>, Fault> {
        loop {
            if let Some(event) = self.frames.next() {
                return Ok(Some(event));
            }
            let Ok(read) = self.stream.read().await else {
                self.ended = true;
                return Err(Fault::Gone);
            };
            let Some(piece) = read else {
                self.ended = true;
                // §7.1
                let is_whole = self.frames.is_between();
                return if is_whole { Ok(None) } else { Err(Fault::Connection(Code::FrameError)) };
            };
            let left = self.allowance.checked_sub(piece.len() as u64);
            self.allowance = left.ok_or(Fault::Request(Code::ExcessiveLoad))?;
            self.frames.push(piece);
        }
    }
}

impl Drop for RequestStream {
    fn drop(&mut self) {
        if !self.ended {
            // §4.1: a server that does not need the rest of a request says so with this code.
            self.stop(Code::NoError);
        }
    }
}
