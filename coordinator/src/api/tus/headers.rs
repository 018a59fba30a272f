//! The protocol's headers: what clients say, and what every answer about an upload says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::fmt::rfc2822::DateTimePrinter;
use reelmill_media::ids::UploadId;

use super::super::problem::{Code, Problem};
use super::super::view;
use crate::uploads::{Checksum, Concat, UploadRecord};

pub(super) const VERSION: &str = "1.0.0";
/// Media type of bytes to be appended.
pub(super) const OFFSET_STREAM: &str = "application/offset+octet-stream";
/// `Upload-Metadata` is no longer than this: it stands in the record.
const MAX_METADATA_BYTES: usize = 4 << 10;
/// A final upload has no more parts: they stand in the record.
const MAX_PARTS: usize = 256;

pub(super) fn check_version(headers: &HeaderMap) -> Result<(), Problem> {
    if text(headers, "tus-resumable")? == Some(VERSION) {
        return Ok(());
    }
    Err(Problem::new(Code::UnsupportedVersion, format!("Say Tus-Resumable: {VERSION}.")))
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Problem> {
    let unreadable = |_| Problem::new(Code::InvalidRequest, format!("Header {name} is not plain text."));
    headers.get(name).map(|value| value.to_str().map_err(unreadable)).transpose()
}

pub(super) fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, Problem> {
    let Some(text) = text(headers, name)? else { return Ok(None) };
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parsed = text.parse().ok().filter(|_| plain);
    parsed
        .map(Some)
        .ok_or_else(|| Problem::new(Code::InvalidRequest, format!("Header {name} is not a number of bytes.")))
}

pub(super) fn is_offset_stream(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim() == OFFSET_STREAM
}

/// What the bytes of this request are said to be.
pub(super) fn checksum(headers: &HeaderMap) -> Result<Option<Checksum>, Problem> {
    let said = text(headers, "upload-checksum")?.map(str::parse::<Checksum>).transpose();
    said.map_err(|error| {
        Problem::new(Code::InvalidRequest, format!("Upload-Checksum cannot be used: {error}."))
    })
}

/// The place in a concatenation: `partial`, or `final;` and the addresses of the parts.
pub(super) fn concat(headers: &HeaderMap) -> Result<Option<Concat>, Problem> {
    let refuse = |detail: String| Problem::new(Code::InvalidRequest, detail);
    let Some(said) = text(headers, "upload-concat")? else { return Ok(None) };
    if said.trim() == "partial" {
        return Ok(Some(Concat::Partial));
    }
    let parts = said.trim().strip_prefix("final;").ok_or_else(|| {
        refuse("Upload-Concat is neither \"partial\" nor \"final;\" and addresses of uploads.".to_owned())
    })?;
    let of = parts.split_ascii_whitespace().map(|address| {
        // Behind a proxy the address may begin with any host.
        let id = address.rsplit_once("/v1/uploads/").and_then(|(_, id)| id.parse().ok());
        id.ok_or_else(|| refuse(format!("Upload-Concat names {address:?}, which is no upload.")))
    });
    let of: Vec<UploadId> = of.collect::<Result<_, _>>()?;
    if of.is_empty() || of.len() > MAX_PARTS {
        return Err(refuse(format!("A final upload has 1 to {MAX_PARTS} parts.")));
    }
    Ok(Some(Concat::Final { of }))
}

/// What `Upload-Metadata` says that means something here.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    /// The file's name.
    pub(super) name: Option<String>,
    /// A profile's name, or a profile in JSON.
    pub(super) profile: Option<String>,
}

/// Reads `Upload-Metadata`: pairs of a key and a base64 text, comma-separated.
pub(super) fn metadata_in(metadata: &str) -> Result<Metadata, Problem> {
    let refuse = |detail: &str| Problem::new(Code::InvalidRequest, detail);
    if metadata.len() > MAX_METADATA_BYTES {
        return Err(refuse("Upload-Metadata is too long."));
    }
    let mut found = Metadata::default();
    for pair in metadata.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
        let value = STANDARD
            .decode(value.trim())
            .map_err(|_| refuse("Upload-Metadata holds a value that is not base64."))?;
        let text = || {
            let value = String::from_utf8(value.clone());
            value.map_err(|_| refuse("Upload-Metadata holds a name or profile that is not UTF-8."))
        };
        match key {
            "name" => found.name = Some(text()?),
            "filename" if found.name.is_none() => found.name = Some(text()?),
            "profile" => found.profile = Some(text()?),
            // Whatever else clients keep there is theirs.
            _ => {}
        }
    }
    Ok(found)
}

/// What every answer about an upload says of it.
pub(super) fn describe(headers: &mut HeaderMap, record: &UploadRecord) {
    // A final upload has an offset once all its parts are there.
    if record.is_full() || !matches!(record.concat, Some(Concat::Final { .. })) {
        put(headers, HeaderName::from_static("upload-offset"), record.blocks.bytes.to_string());
    }
    if let Some(asset) = &record.asset {
        headers.insert("reelmill-asset", view::header(asset));
    }
    // A part is kept until its time is over, however full it is.
    if (!record.is_full() || record.asset.is_none())
        && let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&record.expires_at())
    {
        put(headers, HeaderName::from_static("upload-expires"), date);
    }
}

/// What only an answer to HEAD says.
pub(super) fn describe_fully(headers: &mut HeaderMap, record: &UploadRecord) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match record.length {
        Some(length) => put(headers, HeaderName::from_static("upload-length"), length.to_string()),
        None => put(headers, HeaderName::from_static("upload-defer-length"), "1".to_owned()),
    }
    if let Some(metadata) = record.metadata.clone() {
        put(headers, HeaderName::from_static("upload-metadata"), metadata);
    }
    let concat = match &record.concat {
        None => return describe(headers, record),
        Some(Concat::Partial) => "partial".to_owned(),
        Some(Concat::Final { of }) => {
            let parts: Vec<String> = of.iter().map(address).collect();
            format!("final;{}", parts.join(" "))
        }
    };
    put(headers, HeaderName::from_static("upload-concat"), concat);
    describe(headers, record);
}

/// Where an upload is reached.
pub(super) fn address(id: &UploadId) -> String {
    format!("/v1/uploads/{id}")
}

pub(super) fn put(headers: &mut HeaderMap, name: HeaderName, value: String) {
    // Our own texts, and metadata that came in a header.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_metadata() {
        let name = |text: &str| {
            metadata_in(text).map(|said| said.name).map_err(|problem| problem.detail().to_owned())
        };
        assert_eq!(name(""), Ok(None));
        assert_eq!(name("filename eC5tcDQ=,filetype dmlkZW8vbXA0"), Ok(Some("x.mp4".into())));
        assert_eq!(name("filename eC5tcDQ=, name Zm9v,is_confidential"), Ok(Some("foo".into())));
        assert_eq!(name("filename ???"), Err("Upload-Metadata holds a value that is not base64.".into()));
    }

    #[test]
    fn parts_are_named_by_paths_and_by_whole_addresses() {
        let said = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            concat(&HeaderMap::from_iter([(HeaderName::from_static("upload-concat"), value)]))
        };
        let id = UploadId::from_parts(1, 1);
        assert_eq!(said("partial").unwrap(), Some(Concat::Partial));
        let both = said(&format!("final;/v1/uploads/{id} https://a.example/x/v1/uploads/{id}")).unwrap();
        assert_eq!(both, Some(Concat::Final { of: vec![id, id] }));
        for wrong in ["", "final", "final;", "finally", "final;/files/1", "final;/v1/uploads/1"] {
            assert!(said(wrong).is_err(), "{wrong}");
        }
    }
}
