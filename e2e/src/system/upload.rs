//! Uploads, in one request or by tus.

use std::fmt;
use std::path::Path;

use super::System;
use crate::http::Answer;

/// An asset's id as the API wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetId(pub String);

impl fmt::Display for AssetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The field that says who asks.
#[derive(Debug)]
pub struct Key(String);

impl Key {
    /// As a header field.
    pub fn pair(&self) -> (&str, &str) {
        ("Authorization", &self.0)
    }
}

/// A tus upload in progress.
#[derive(Debug)]
pub struct Tus<'a> {
    system: &'a System,
    /// Where it goes on.
    pub address: String,
    /// What it becomes.
    pub asset: AssetId,
}

impl System {
    /// A whole address of the API.
    pub fn api(&self, path: &str) -> String {
        format!("{}{path}", self.state.api)
    }

    /// The key of this system's tenant.
    pub fn key(&self) -> Key {
        Key(format!("Bearer {}", self.state.api_key))
    }

    /// Uploads a file in one request; the answer as it is.
    pub fn try_put(&self, file: &Path) -> Answer {
        self.http.send_file("PUT", &self.api("/v1/uploads?name=clip"), &[self.key().pair()], file)
    }

    /// Uploads a file in one request.
    pub fn put(&self, file: &Path) -> AssetId {
        let answer = self.try_put(file);
        assert!((200..300).contains(&answer.status), "{}: {}", answer.status, answer.text());
        asset_of(&answer)
    }

    /// Begins a tus upload of so many bytes.
    pub fn tus(&self, length: u64) -> Tus<'_> {
        let length = length.to_string();
        // "clip" in base64.
        let metadata = ("Upload-Metadata", "filename Y2xpcA==");
        let headers = [self.key().0.clone()];
        let headers = [
            ("Authorization", headers[0].as_str()),
            ("Tus-Resumable", "1.0.0"),
            ("Upload-Length", &length),
            metadata,
        ];
        let answer = self.http.send("POST", &self.api("/v1/uploads"), &headers, Vec::new());
        assert_eq!(answer.status, 201, "{}", answer.text());
        let location = answer.header("location").to_owned();
        let address = if location.starts_with('/') { self.api(&location) } else { location };
        Tus { system: self, address, asset: asset_of(&answer) }
    }

    /// Uploads a file by tus in pieces of so many bytes.
    pub fn upload_by_tus(&self, file: &Path, piece: usize) -> AssetId {
        let bytes = std::fs::read(file).expect("a file to upload");
        let upload = self.tus(bytes.len() as u64);
        let mut offset = 0;
        for piece in bytes.chunks(piece) {
            let answer = upload.send(offset, piece.to_vec());
            assert_eq!(answer.status, 204, "{}", answer.text());
            offset += piece.len() as u64;
            assert_eq!(answer.header("upload-offset"), offset.to_string());
        }
        upload.asset
    }
}

impl Tus<'_> {
    /// Sends bytes that belong at an offset.
    pub fn send(&self, offset: u64, bytes: Vec<u8>) -> Answer {
        let (key, offset) = (self.system.key(), offset.to_string());
        let headers = [
            key.pair(),
            ("Tus-Resumable", "1.0.0"),
            ("Upload-Offset", &offset),
            ("Content-Type", "application/offset+octet-stream"),
        ];
        self.system.http.send("PATCH", &self.address, &headers, bytes)
    }

    /// The offset up to which the server has everything; `None` while it does not answer.
    pub fn offset(&self) -> Option<u64> {
        let key = self.system.key();
        let headers = [key.pair(), ("Tus-Resumable", "1.0.0")];
        let answer = self.system.http.try_send("HEAD", &self.address, &headers, Vec::new()).ok()?;
        (answer.status == 200).then(|| answer.header("upload-offset").parse().expect("an offset"))
    }
}

/// The id is a field of the answer, or of its body.
fn asset_of(answer: &Answer) -> AssetId {
    match answer.header("reelmill-asset") {
        "" => AssetId(answer.json()["id"].as_str().expect("an id in the answer").to_owned()),
        id => AssetId(id.to_owned()),
    }
}
