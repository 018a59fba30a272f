//! A client whose calls block, with deadlines: tests read from top to bottom.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response};
use tokio::runtime::Runtime;

/// Any one exchange, body included, takes less.
const DEADLINE: Duration = Duration::from_secs(120);

/// An HTTP client over HTTP/1.1 and HTTP/2 that takes any certificate.
#[derive(Debug)]
pub struct Http {
    runtime: Runtime,
    client: reqwest::Client,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub struct Coming<'a> {
    runtime: &'a Runtime,
    response: Response,
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Http {
    /// A new one, without open connections.
    pub fn new() -> Http {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let client = reqwest::Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .build()
            .expect("a client");
        Http { runtime, client }
    }

    /// Sends a request and reads the whole answer; `Err` when there is none.
    pub fn try_send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, reqwest::Error> {
        let request = self
            .client
            .request(method.parse::<Method>().expect("a method"), url)
            .headers(fields(headers))
            .timeout(DEADLINE)
            .body(body);
        self.runtime.block_on(async {
            let response = request.send().await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Ok(Answer { status, headers, body: response.bytes().await?.to_vec() })
        })
    }

    /// As [`Http::try_send`], where an answer is due.
    pub fn send(&self, method: &str, url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        self.try_send(method, url, headers, body).unwrap_or_else(|error| panic!("{method} {url}: {error:?}"))
    }

    /// GET.
    pub fn get(&self, url: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", url, headers, Vec::new())
    }

    /// Sends a file as the body.
    pub fn send_file(&self, method: &str, url: &str, headers: &[(&str, &str)], file: &Path) -> Answer {
        let body =
            std::fs::read(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
        self.send(method, url, headers, body)
    }

    /// GET, without waiting for the body.
    pub fn open(&self, url: &str, headers: &[(&str, &str)]) -> Result<Coming<'_>, reqwest::Error> {
        let request = self.client.get(url).headers(fields(headers));
        let response = self.runtime.block_on(request.send())?;
        Ok(Coming { runtime: &self.runtime, response })
    }
}

impl Coming<'_> {
    /// Status code.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// More of the body; `None` at its end, and when nothing comes within `wait`.
    pub fn more(&mut self, wait: Duration) -> Option<Vec<u8>> {
        let response = &mut self.response;
        let piece = self.runtime.block_on(async { tokio::time::timeout(wait, response.chunk()).await });
        piece.ok()?.ok()?.map(|bytes| bytes.to_vec())
    }
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("a body in UTF-8")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// A header field, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

fn fields(headers: &[(&str, &str)]) -> HeaderMap {
    let field = |&(name, value): &(&str, &str)| {
        (
            name.parse::<HeaderName>().expect("a field name"),
            HeaderValue::from_str(value).expect("a field value"),
        )
    };
    headers.iter().map(field).collect()
}
