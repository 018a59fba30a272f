//! The access log: one JSON object per line for each request, written when its answer is over, however it ends.
//!
//! Nobody waits for it: what the file does not take in time is dropped and counted. Tokens are not written.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use http::request::Parts;
use http::{HeaderMap, Response, StatusCode, header};
use jiff::Timestamp;
use serde::Serialize;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::access;
use crate::limits::{ACCESS_LOG_BATCH, ACCESS_LOG_FIELD, ACCESS_LOG_WAITING};
use crate::metrics::{Metrics, Protocol};

/// Where lines go. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog {
    lines: Option<mpsc::Sender<Vec<u8>>>,
    metrics: Metrics,
}

/// What writes them.
pub(crate) struct Writer {
    path: PathBuf,
    lines: mpsc::Receiver<Vec<u8>>,
}

/// A request under way; dropped, it becomes a line.
#[derive(Debug)]
pub(crate) struct Entry {
    log: mpsc::Sender<Vec<u8>>,
    metrics: Metrics,
    begun: Instant,
    line: Line,
}

#[derive(Debug, Serialize)]
struct Line {
    /// When the request was there.
    time: Timestamp,
    client: IpAddr,
    protocol: &'static str,
    /// Of what could not be read there is neither method nor path.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    /// Without the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    /// Whether a token stood in the path.
    token: bool,
    status: u16,
    /// Bytes of the body that were taken.
    bytes: u64,
    seconds: f64,
    /// All of the answer was taken.
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_status: Option<String>,
    /// The `CMCD-*` fields (CTA-5004); in queries they stand there.
    #[serde(skip_serializing_if = "Option::is_none")]
    cmcd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: Option<String>,
}

impl AccessLog {
    /// A log at `path`, where `-` is the standard output; none without.
    pub(crate) fn new(path: Option<&Path>, metrics: Metrics) -> (Self, Option<Writer>) {
        let Some(path) = path else { return (Self { lines: None, metrics }, None) };
        let (sender, lines) = mpsc::channel(ACCESS_LOG_WAITING);
        (Self { lines: Some(sender), metrics }, Some(Writer { path: path.to_owned(), lines }))
    }

    /// Begins with a request's head.
    pub(crate) fn begin(&self, request: &Parts, client: IpAddr, protocol: Protocol) -> Option<Entry> {
        let mut entry = self.begin_unread(client, protocol)?;
        let (token, path) = access::split_token(request.uri.path());
        let field = |name: header::HeaderName| text(&request.headers, name);
        let cmcd = ["cmcd-request", "cmcd-object", "cmcd-status", "cmcd-session"];
        let cmcd: Vec<String> = cmcd.into_iter().filter_map(|name| text(&request.headers, name)).collect();
        let line = &mut entry.line;
        line.method = Some(request.method.to_string());
        line.path = Some(safe(path));
        line.query = request.uri.query().map(safe);
        line.token = token.is_some();
        line.cmcd = (!cmcd.is_empty()).then(|| cmcd.join(","));
        line.range = field(header::RANGE);
        line.user_agent = field(header::USER_AGENT);
        line.referer = field(header::REFERER);
        Some(entry)
    }

    /// Begins with a request of which nothing is known.
    pub(crate) fn begin_unread(&self, client: IpAddr, protocol: Protocol) -> Option<Entry> {
        match protocol {
            Protocol::Http3 | Protocol::Http2 | Protocol::Http1 => {}
            // No viewer's.
            Protocol::Peer => return None,
        }
        let log = self.lines.clone()?;
        let line = Line {
            time: Timestamp::now(),
            client: client.to_canonical(),
            protocol: protocol.label(),
            method: None,
            path: None,
            query: None,
            token: false,
            status: 0,
            bytes: 0,
            seconds: 0.0,
            complete: false,
            cache_status: None,
            cmcd: None,
            range: None,
            user_agent: None,
            referer: None,
        };
        Some(Entry { log, metrics: self.metrics.clone(), begun: Instant::now(), line })
    }
}

impl Entry {
    /// The answer's head is known.
    pub(crate) fn answered<B>(&mut self, response: &Response<B>) {
        self.line.status = response.status().as_u16();
        self.line.cache_status = text(response.headers(), "cache-status");
    }

    /// It is not read, and answered with nothing but this.
    pub(crate) fn refused(&mut self, status: StatusCode) {
        self.line.status = status.as_u16();
    }

    /// The client took so many bytes of the body.
    pub(crate) fn took(&mut self, bytes: usize) {
        self.line.bytes += bytes as u64;
    }

    /// The client has all of it.
    pub(crate) fn complete(&mut self) {
        self.line.complete = true;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.line.status == 0 {
            // As others have it: the client went away before there was an answer.
            self.line.status = StatusCode::REQUEST_TIMEOUT.as_u16();
        }
        self.line.seconds = self.begun.elapsed().as_secs_f64();
        // Numbers and texts always serialise.
        let mut text = serde_json::to_vec(&self.line).unwrap_or_default();
        text.push(b'\n');
        if self.log.try_send(text).is_err() {
            self.metrics.dropped_log_line();
        }
    }
}

impl Writer {
    /// Writes until every [`AccessLog`] is gone. The file is opened by its name for each batch, so that it can be moved
    /// away at any time.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::new();
        while self.lines.recv_many(&mut batch, ACCESS_LOG_BATCH).await > 0 {
            if let Err(error) = self.write(&batch.concat()).await {
                tracing::error!(path = %self.path.display(), %error, "cannot write the access log");
            }
            batch.clear();
        }
    }

    async fn write(&self, text: &[u8]) -> io::Result<()> {
        if self.path.as_os_str() == "-" {
            return whole(tokio::io::stdout(), text).await;
        }
        let file: File = OpenOptions::new().append(true).create(true).open(&self.path).await?;
        whole(file, text).await
    }
}

async fn whole(mut to: impl AsyncWrite + Unpin, text: &[u8]) -> io::Result<()> {
    to.write_all(text).await?;
    to.flush().await
}

fn text(headers: &HeaderMap, name: impl header::AsHeaderName) -> Option<String> {
    headers.get(name).map(|value| safe(&String::from_utf8_lossy(value.as_bytes())))
}

/// Not too long, and without tokens, wherever they stand.
fn safe(text: &str) -> String {
    access::without_tokens(text).chars().take(ACCESS_LOG_FIELD).collect()
}
