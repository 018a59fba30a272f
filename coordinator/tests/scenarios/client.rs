//! A caller of the API.

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::machines::{Coordinator, KEY, Machines, until};

pub struct Caller {
    http: Client,
    base: String,
    address: String,
    key: &'static str,
}

impl Caller {
    pub fn of(coordinator: &Coordinator) -> Caller {
        Self::with_key(coordinator, KEY)
    }

    pub fn with_key(coordinator: &Coordinator, key: &'static str) -> Caller {
        let (base, address) = (coordinator.base.clone(), coordinator.address());
        Caller { http: Client::new(), base, address, key }
    }

    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(self.key)
    }

    /// A request of the tus protocol.
    pub fn tus(&self, method: &str, path: &str) -> RequestBuilder {
        self.request(method, path).header("Tus-Resumable", "1.0.0")
    }

    pub async fn put(&self, bytes: impl Into<Vec<u8>>) -> String {
        let response = self.request("PUT", "/v1/uploads?name=clip").body(bytes.into()).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        let location = header(&response, "location");
        let asset: Value = response.json().await.unwrap();
        assert_eq!(location, format!("/v1/assets/{}", asset["id"].as_str().unwrap()));
        asset["id"].as_str().unwrap().to_owned()
    }

    pub async fn asset(&self, id: &str) -> Value {
        let response = self.request("GET", &format!("/v1/assets/{id}")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }

    /// Waits until an asset is in a state, and gives it.
    pub async fn reaches(&self, id: &str, state: &str) -> Value {
        until(&format!("{id} {state}"), async || {
            let asset = self.asset(id).await;
            (asset["state"] == state).then_some(asset)
        })
        .await
    }

    /// Creates an upload; gives its path and its asset.
    pub async fn create(&self, length: usize) -> (String, String) {
        let response = self.tus("POST", "/v1/uploads").header("Upload-Length", length).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        (header(&response, "location"), header(&response, "reelmill-asset"))
    }

    pub async fn patch(&self, upload: &str, offset: usize, bytes: &[u8]) -> Response {
        self.tus("PATCH", upload)
            .header("Content-Type", "application/offset+octet-stream")
            .header("Upload-Offset", offset)
            .body(bytes.to_vec())
            .send()
            .await
            .unwrap()
    }

    pub async fn offset(&self, upload: &str) -> usize {
        let response = self.tus("HEAD", upload).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, "cache-control"), "no-store");
        header(&response, "upload-offset").parse().unwrap()
    }

    /// A connection on which a request's head and part of its body were sent.
    pub async fn half_sent(&self, head: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let head = format!("{head}\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", self.key);
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        stream
    }

    /// The head of a PATCH by hand.
    pub fn patch_head(upload: &str, offset: usize, length: usize) -> String {
        format!(
            "PATCH {upload} HTTP/1.1\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n\
             Content-Type: application/offset+octet-stream\r\nContent-Length: {length}"
        )
    }
}

/// The status line's number.
pub async fn status_of(stream: &mut TcpStream) -> u16 {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n") {
        text.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(text).unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

pub fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap().to_owned()
}

/// Checks that an answer is a problem with this status and code.
pub async fn is_problem(response: Response, status: u16, code: &str) -> Value {
    assert_eq!(header(&response, "content-type"), "application/problem+json");
    assert_eq!(response.status().as_u16(), status);
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["status"], status);
    assert!(problem["detail"].as_str().unwrap().ends_with('.'), "{problem}");
    problem
}

/// The bytes that an asset's job would read, from the first task in its queue.
pub async fn uploaded_bytes(machines: &Machines, asset: &str) -> Vec<u8> {
    use reelmill_media::keys::BlobKind;
    use reelmill_media::source::Source;
    use reelmill_platform::topology::BucketName;
    let bucket = machines.bus().await.bucket::<Value>(BucketName::Assets).await.unwrap();
    let record = until("the last byte", async || {
        let (record, _) = bucket.get(asset).await.unwrap().unwrap();
        record["timings"]["received_at"].is_string().then_some(record)
    })
    .await;
    let blocks = record["stage"]["source"]["blocks"].as_str().expect("complete").parse().unwrap();
    let text = machines.store.get_blob(BlobKind::Record, blocks).await.unwrap();
    let source: Source = serde_json::from_slice(text.bytes()).unwrap();
    let mut all = Vec::new();
    for block in source.blocks {
        let blob = machines.store.get_blob(BlobKind::SourceBlock, block.hash).await.unwrap();
        all.extend_from_slice(blob.bytes());
    }
    all
}
