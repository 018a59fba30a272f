//! All requests of one connection, until it ends or is drained (RFC 9114 §5).

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use quinn::ConnectionError;
use tokio::time::{sleep, timeout};

use super::exchange::Exchange;
use super::fault::Code;
use super::priority::Priorities;
use super::request_stream::RequestStream;
use super::rota::Rota;
use super::send_half::SendHalf;
use super::{client_streams, number};
use crate::limits::{HANDSHAKE_DEADLINE, HEADER_SECTION_BYTES, IDLE};
use crate::listener::Context;
use crate::listener::driver::{Connection, RecvStream, SendStream};
use crate::listener::peer::Peer;
use crate::metrics::Protocol;

/// Between the first GOAWAY and the last, and between that and the end: at least this, or two round trips, for requests already
/// on their way.
const GOAWAY_SETTLES: Duration = Duration::from_millis(50);

/// The highest number that a request's stream can have (RFC 9114 §5.2).
const LAST_STREAM: u64 = (1 << 62) - 4;

/// Serves a connection until it ends, or has its answers after `drain`, or has asked for nothing in a while. Dropped, it closes
/// the connection.
pub(crate) async fn serve(
    connection: &Connection,
    peer: &Peer,
    context: &Context,
    drain: impl Future + Send,
) {
    let (priorities, rota) = (Priorities::default(), Arc::default());
    tokio::select! {
        biased;
        // First, so that what was said before a request counts for it.
        () = client_streams::hear(connection, &priorities) => {}
        never = Rota::rouse(&rota) => match never {},
        () = requests(connection, &priorities, &rota, peer, context, drain) => {}
    }
}

async fn requests(
    connection: &Connection,
    priorities: &Priorities,
    rota: &Arc<Rota>,
    peer: &Peer,
    context: &Context,
    drain: impl Future + Send,
) {
    let opening = timeout(HANDSHAKE_DEADLINE, Control::open(connection));
    let Ok(Ok(mut control)) = opening.await else { return };
    let mut running = FuturesUnordered::new();
    let begin = |(send, receive, early): (SendStream, RecvStream, bool)| {
        let stream = receive.id();
        let half = Arc::new(SendHalf::new(send, rota.clone()));
        priorities.open(stream, &half);
        let request = RequestStream::new(receive);
        // Boxed, for it is large, and a set of futures has room for one more than it has.
        Box::pin(async move {
            let turns = &priorities.turns;
            Exchange { request, half, stream, turns, early, connection, peer, context }.run().await;
            priorities.close(stream);
        })
    };
    let mut answer_until = async |mut event: Pin<&mut (dyn Future<Output = ()> + Send)>| {
        loop {
            tokio::select! {
                biased;
                accepted = connection.accept_bi() => running.push(begin(accepted?)),
                // Before the answers, so that these do not take the room for what is said there.
                () = &mut event => return Ok::<_, ConnectionError>(()),
                Some(()) = running.next() => {}
                // Signs of life are no requests. Peers keep connections on purpose.
                () = sleep(IDLE), if running.is_empty() && context.protocol != Protocol::Peer => return Ok(()),
            }
        }
    };
    let settled = || sleep(GOAWAY_SETTLES.max(connection.rtt() * 2));
    // First announce, so that requests on their way are still taken, then say which was the last.
    let announced = async {
        control.go_away(LAST_STREAM).await;
        settled().await;
    };
    let ending = async {
        answer_until(pin!(drain.map(drop))).await?;
        answer_until(pin!(announced)).await
    };
    if let Err(error) = ending.await {
        tracing::debug!(peer = %connection.remote_address(), %error, "HTTP/3 connection ended");
        // They find out by themselves.
        return while running.next().await.is_some() {};
    }
    let rejected = async {
        while let Ok((mut send, mut receive, _)) = connection.accept_bi().await {
            send.reset(Code::RequestRejected.into());
            receive.stop(Code::RequestRejected.into());
        }
        pending().await
    };
    let last_said = async {
        control.go_away(priorities.next()).await;
        // What is said just before the end is not sent.
        settled().await;
    };
    let finished = async { while running.next().await.is_some() {} };
    tokio::select! {
        biased;
        ((), ()) = join(last_said, finished) => {}
        () = rejected => {}
    }
}

/// The control stream of the server. It may not end before the connection, which ends with it.
struct Control<'a> {
    stream: SendStream,
    /// The client has not taken in time what was said last: nothing can follow half a frame.
    is_stuck: bool,
    connection: &'a Connection,
}

impl<'a> Control<'a> {
    /// Opens it with SETTINGS: what is not said of QPACK means that there is no dynamic table (RFC 9204 §5).
    async fn open(connection: &'a Connection) -> Result<Self, ConnectionError> {
        const CONTROL: u8 = 0x00;
        const SETTINGS: u8 = 0x04;
        const MAX_FIELD_SECTION_SIZE: u8 = 0x06;
        let mut setting = vec![MAX_FIELD_SECTION_SIZE];
        number::write(&mut setting, HEADER_SECTION_BYTES.into());
        let begin = [&[CONTROL, SETTINGS, setting.len() as u8], &setting[..]].concat();
        let mut control = Self { stream: connection.open_uni().await?, is_stuck: false, connection };
        // Before all answers.
        control.stream.set_priority(i32::MAX);
        control.say(begin).await;
        Ok(control)
    }

    /// Says that streams of this number and above are not answered.
    async fn go_away(&mut self, stream: u64) {
        const GOAWAY: u8 = 0x07;
        let mut number = Vec::new();
        number::write(&mut number, stream);
        let frame = [&[GOAWAY, number.len() as u8], &number[..]].concat();
        // Whoever does not take it finds out when the connection ends.
        if !self.is_stuck {
            self.is_stuck = timeout(HANDSHAKE_DEADLINE, self.say(frame)).await.is_err();
        }
    }

    async fn say(&mut self, text: Vec<u8>) {
        let mut pieces = [Bytes::from(text)];
        // Where nobody listens, the connection's end is told elsewhere.
        while !pieces[0].is_empty() && poll_fn(|cx| self.stream.poll_write(cx, &mut pieces)).await.is_ok() {}
    }
}

impl Drop for Control<'_> {
    fn drop(&mut self) {
        self.connection.close(Code::NoError.into());
    }
}
