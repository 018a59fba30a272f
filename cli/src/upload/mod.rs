//! Uploads a file by the tus protocol (1.0), from where it stopped if it was cut. Where the end of the file is worth
//! sending first, it goes as two parts of a final upload that is declared before them.

mod tail;

use std::io::SeekFrom;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, stream};
use indicatif::{ProgressBar, ProgressStyle};
use reelmill_media::ids::AssetId;
use reqwest::{Body, Method, Response, StatusCode};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, Take};

use crate::api::{self, Api, Refused};
use crate::profile::Choice;

/// Bytes read and sent at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Connections in a row that may fail without a byte getting through.
const MAX_FAILURES: u32 = 8;

/// The whole rest of a file may take this long in one request.
const PATCH_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// Uploads `file`, of which is made what `profile` says; returns the asset it becomes.
pub async fn run(
    api: &Api,
    file: &Path,
    name: Option<&str>,
    profile: Option<&Choice>,
) -> anyhow::Result<AssetId> {
    let metadata =
        tokio::fs::metadata(file).await.with_context(|| format!("cannot read {}", file.display()))?;
    if !metadata.is_file() {
        bail!("{} is not a file", file.display());
    }
    let length = metadata.len();
    let own_name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.unwrap_or(&own_name);

    let mut said = format!("filename {}", STANDARD.encode(name));
    if let Some(profile) = profile {
        said.push_str(&format!(",profile {}", STANDARD.encode(profile.text().await?)));
    }
    let tail = tail::begins(&mut File::open(file).await?, length).await?;
    let (asset, parts) = match tail {
        Some(tail) if joins_unfinished(api).await? => declare_parts(api, tail, length, &said).await?,
        Some(_) | None => {
            let bytes = length.to_string();
            let created = create(api, &[("Upload-Length", &bytes), ("Upload-Metadata", &said)]).await?;
            (asset_of(&created)?, vec![Part { address: header(&created, "location")?, range: 0..length }])
        }
    };
    let bar = ProgressBar::new(length).with_style(bar_style()?).with_message("upload");
    let mut sent = 0;
    for part in parts {
        send(api, &part, file, sent, &bar).await?;
        sent += part.range.end - part.range.start;
    }
    bar.finish();
    Ok(asset)
}

/// An upload on the server, and the bytes of the file that it takes.
struct Part {
    address: String,
    range: Range<u64>,
}

async fn create(api: &Api, headers: &[(&str, &str)]) -> anyhow::Result<Response> {
    let mut create = api.request(Method::POST, "/v1/uploads").header("Tus-Resumable", "1.0.0");
    for (name, value) in headers {
        create = create.header(*name, *value);
    }
    api.send(create).await
}

fn asset_of(created: &Response) -> anyhow::Result<AssetId> {
    Ok(header(created, "reelmill-asset")?.parse()?)
}

/// Whether the server takes a final upload before its parts.
async fn joins_unfinished(api: &Api) -> anyhow::Result<bool> {
    let options = api.send(api.request(Method::OPTIONS, "/v1/uploads")).await?;
    let extensions = header(&options, "tus-extension").unwrap_or_default();
    Ok(extensions.split(',').any(|extension| extension.trim() == "concatenation-unfinished"))
}

/// Both parts of a file that is cut at `tail`, and the final upload; the part to be sent first comes first.
async fn declare_parts(
    api: &Api,
    tail: u64,
    length: u64,
    metadata: &str,
) -> anyhow::Result<(AssetId, Vec<Part>)> {
    let mut parts = Vec::new();
    for range in [0..tail, tail..length] {
        let bytes = (range.end - range.start).to_string();
        let created = create(api, &[("Upload-Concat", "partial"), ("Upload-Length", &bytes)]).await?;
        parts.push(Part { address: header(&created, "location")?, range });
    }
    let of: Vec<&str> = parts.iter().map(|part| part.address.as_str()).collect();
    let concat = format!("final;{}", of.join(" "));
    let created = create(api, &[("Upload-Concat", &concat), ("Upload-Metadata", metadata)]).await?;
    parts.reverse();
    Ok((asset_of(&created)?, parts))
}

/// Sends a part, however often it is cut. `before` bytes of the file have gone before it.
async fn send(api: &Api, part: &Part, file: &Path, before: u64, bar: &ProgressBar) -> anyhow::Result<()> {
    let Part { address, range } = part;
    let length = range.end - range.start;
    let (mut offset, mut failures) = (0, 0);
    while offset < length {
        let reached = match send_from(api, part, file, offset, bar).await {
            Ok(reached) => reached,
            Err(error) if error.is::<Refused>() => return Err(error),
            Err(error) if failures + 1 >= MAX_FAILURES => return Err(error),
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(400 << failures)).await;
                match durable_offset(api, address).await {
                    Err(error) if error.is::<Refused>() => return Err(error),
                    reached => reached.unwrap_or(offset),
                }
            }
        };
        failures = if reached > offset { 0 } else { failures + 1 };
        if failures >= MAX_FAILURES {
            bail!("the upload does not get on: the server takes no byte after {}", before + offset);
        }
        offset = reached;
        bar.set_position(before + offset);
    }
    Ok(())
}

/// Sends everything of a part from `offset` on; returns the offset that the server then has.
async fn send_from(
    api: &Api,
    Part { address, range }: &Part,
    file: &Path,
    offset: u64,
    bar: &ProgressBar,
) -> anyhow::Result<u64> {
    let mut open = File::open(file).await?;
    open.seek(SeekFrom::Start(range.start + offset)).await?;
    let rest = open.take(range.end - range.start - offset);
    let body = Body::wrap_stream(pieces(rest, bar.clone()));
    let patch = api
        .request(Method::PATCH, address)
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Offset", offset)
        .header("Content-Type", "application/offset+octet-stream")
        .timeout(PATCH_DEADLINE)
        .body(body)
        .send()
        .await?;
    if patch.status() == StatusCode::CONFLICT {
        bail!("the upload goes on from another byte");
    }
    if !patch.status().is_success() {
        return Err(api::error(patch).await);
    }
    Ok(header(&patch, "upload-offset")?.parse()?)
}

async fn durable_offset(api: &Api, address: &str) -> anyhow::Result<u64> {
    let head = api.request(Method::HEAD, address).header("Tus-Resumable", "1.0.0");
    Ok(header(&api.send(head).await?, "upload-offset")?.parse()?)
}

fn pieces(file: Take<File>, bar: ProgressBar) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::try_unfold((file, bar), |(mut file, bar)| async move {
        let mut piece = vec![0; PIECE_BYTES];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        bar.inc(read as u64);
        Ok((read > 0).then(|| (Bytes::from(piece), (file, bar))))
    })
}

fn header(response: &Response, name: &str) -> anyhow::Result<String> {
    let value = response.headers().get(name).ok_or_else(|| anyhow!("the server's answer lacks {name}"))?;
    Ok(value.to_str()?.to_owned())
}

fn bar_style() -> anyhow::Result<ProgressStyle> {
    let template = "{msg:>16} {wide_bar:.cyan/dim} {bytes:>10} of {total_bytes:10} {bytes_per_sec:>12}";
    Ok(ProgressStyle::with_template(template)?.progress_chars("━━─"))
}
