//! HTTP/1.1 and HTTP/2 over TCP, with TLS or, for local tools, without.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use reelmill_platform::lingering::Lingering;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::Context;
use super::activity::{Activity, Judgement};

use crate::access_log::Entry;
use crate::body::Body;
use crate::cache::FillError;
use crate::clients::{Address, ClientConnection, Excess};
use crate::limits::{
    H2_SEND_BUFFER_BYTES, HANDSHAKE_DEADLINE, HEADER_DEADLINE, HEADER_FIELDS, HEADER_SECTION_BYTES, IDLE,
    STREAMS_PER_CONNECTION,
};
use crate::metrics::{Metrics, Protocol, Transport};
use crate::pace::Pace;

/// How often a connection is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long after our last byte a peer may take to read it and close.
const LINGER: Duration = Duration::from_secs(30);

/// Pause after the kernel could not hand out a connection, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// ALPN names (RFC 9113 §3.1, RFC 7301 §6).
pub(crate) const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// TLS and what it announces, or neither.
#[derive(Clone)]
pub(crate) enum Security {
    Tls { acceptor: TlsAcceptor, alt_svc: HeaderValue },
    Plain,
}

impl Security {
    fn transport(&self) -> Transport {
        match self {
            Self::Tls { .. } => Transport::Tls,
            Self::Plain => Transport::Plain,
        }
    }
}

/// Takes connections until the drain.
pub(crate) async fn serve(listener: TcpListener, security: Security, context: Context) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = context.drain.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a TCP connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = context.connections.clone().try_acquire_owned() else {
            context.metrics.refused_connection(security.transport());
            continue;
        };
        let client = match context.clients.connect(peer.ip(), Address::Proven) {
            Ok(client) => client,
            Err(excess) => {
                context.metrics.excess(excess);
                continue;
            }
        };
        let (context, security) = (context.clone(), security.clone());
        context.tasks.clone().spawn(async move {
            let _permit = permit;
            let end = context.end.clone();
            tokio::select! {
                () = connection(stream, security, peer.ip(), client, context) => {}
                () = end.cancelled() => {}
            }
        });
    }
}

async fn connection(
    stream: TcpStream,
    security: Security,
    from: IpAddr,
    client: ClientConnection,
    context: Context,
) {
    // Without it, small answers wait for acknowledgements. It fails only on sockets already dead.
    let _ = stream.set_nodelay(true);
    let stream = Lingering::new(stream, LINGER);
    let transport = security.transport();
    match security {
        Security::Tls { acceptor, alt_svc } => {
            let tls = match timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
                Ok(Ok(tls)) => tls,
                Ok(Err(error)) => {
                    context.metrics.handshake_failure(transport);
                    tracing::debug!(%error, "TLS handshake failed");
                    return;
                }
                Err(_) => return context.metrics.handshake_failure(transport),
            };
            let _guard = context.metrics.connection(transport);
            let http2 = tls.get_ref().1.alpn_protocol() == Some(ALPN[0]);
            requests(tls, http2, Some(alt_svc), from, client, context).await;
        }
        Security::Plain => {
            let _guard = context.metrics.connection(transport);
            requests(stream, false, None, from, client, context).await;
        }
    }
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    http2: bool,
    alt_svc: Option<HeaderValue>,
    from: IpAddr,
    client: ClientConnection,
    context: Context,
) {
    let activity = Arc::new(Activity::new(client));
    let mut pace = Pace::new(&context.clients.limits());
    let service = {
        let (context, activity) = (context.clone(), activity.clone());
        service_fn(move |request| answer(request, from, context.clone(), activity.clone(), alt_svc.clone()))
    };
    let builder = builder(http2, &context);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut closing = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "HTTP connection ended");
                    if let Some(status) = refusal(&*error)
                        && let Some(mut entry) = context.refused(status, from, Protocol::Http1)
                    {
                        entry.complete();
                    }
                }
                return;
            }
            () = context.drain.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = look.tick() => match activity.judge() {
                Judgement::Keep if activity.client().is_shut_out() => return,
                Judgement::Keep => {
                    if pace.is_too_slow(Instant::now(), activity.taken(), activity.is_pressed()) {
                        context.metrics.excess(Excess::Slow);
                        return;
                    }
                }
                Judgement::Idle if closing => {}
                Judgement::Idle => {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                Judgement::Stalled => return,
            },
        }
    }
}

/// What hyper has answered by itself to a head of HTTP/1.1 that makes no sense. Of HTTP/2 it does not tell.
fn refusal(error: &(dyn Error + 'static)) -> Option<StatusCode> {
    let error: &hyper::Error = error.downcast_ref()?;
    if error.is_parse_too_large() {
        Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
    } else {
        (error.is_parse() && !error.is_parse_version_h2()).then_some(StatusCode::BAD_REQUEST)
    }
}

fn builder(http2: bool, context: &Context) -> auto::Builder<Owned> {
    let mut builder = auto::Builder::new(Owned(context.clone()));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_headers(HEADER_FIELDS)
        .max_buf_size(HEADER_SECTION_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_SECTION_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_send_buf_size(H2_SEND_BUFFER_BYTES)
        // A peer that vanished without a word is found out by a ping.
        .keep_alive_interval(IDLE)
        .keep_alive_timeout(HANDSHAKE_DEADLINE);
    if http2 { builder.http2_only() } else { builder.http1_only() }
}

/// Runs the tasks of HTTP/2 streams under the process's tracker.
#[derive(Clone)]
struct Owned(Context);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Owned {
    fn execute(&self, task: F) {
        let end = self.0.end.clone();
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = end.cancelled() => {}
            }
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    from: IpAddr,
    context: Context,
    activity: Arc<Activity>,
    alt_svc: Option<HeaderValue>,
) -> Result<Response<WatchedBody>, Infallible> {
    let (parts, _) = request.into_parts();
    let protocol = if parts.version == Version::HTTP_2 { Protocol::Http2 } else { Protocol::Http1 };
    let watch = Watch::begin(activity, context.metrics.clone(), protocol);
    let mut entry = context.access_log.begin(&parts, from, protocol);
    let mut response = if watch.activity.client().may_ask() {
        context.edge.answer(&parts, from).await
    } else {
        context.metrics.excess(Excess::Requests);
        context.edge.too_many(&parts)
    };
    context.metrics.request(protocol, response.status(), response.extensions().get().copied());
    if let Some(alt_svc) = alt_svc {
        response.headers_mut().insert(header::ALT_SVC, alt_svc);
    }
    if let Some(entry) = &mut entry {
        entry.answered(&response);
    }
    Ok(response.map(|body| WatchedBody { body, watch, entry }))
}

/// One request from its head to the end of its answer.
struct Watch {
    activity: Arc<Activity>,
    metrics: Metrics,
    protocol: Protocol,
    /// The peer has been given something and there is more.
    given: bool,
}

impl Watch {
    fn begin(activity: Arc<Activity>, metrics: Metrics, protocol: Protocol) -> Self {
        activity.begin();
        Self { activity, metrics, protocol, given: false }
    }

    fn has_given(&mut self, given: bool) {
        if given != self.given {
            self.given = given;
            self.activity.press(given);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.has_given(false);
        self.activity.end();
    }
}

/// A body that notes each piece taken.
struct WatchedBody {
    body: Body,
    watch: Watch,
    entry: Option<Entry>,
}

impl http_body::Body for WatchedBody {
    type Data = Bytes;
    type Error = FillError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FillError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        // Pending means that the peer waits for us.
        let given = polled.is_ready() && !self.body.is_end_stream();
        self.watch.has_given(given);
        let frame = ready!(polled);
        self.watch.activity.progress();
        if let Some(Ok(data)) = frame.as_ref().map(|f| f.as_ref().map(Frame::data_ref)) {
            let bytes = data.map_or(0, Bytes::len);
            self.watch.metrics.sent(self.watch.protocol, bytes);
            self.watch.activity.took(bytes);
            if let Some(entry) = &mut self.entry {
                entry.took(bytes);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            self.watch.metrics.aborted(self.watch.protocol);
        } else if let Some(entry) = &mut self.entry {
            entry.complete();
        }
    }
}
