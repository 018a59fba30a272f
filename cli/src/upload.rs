//! Uploads a file by the tus protocol (1.0), from where it stopped if it was cut.

use std::io::SeekFrom;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, stream};
use indicatif::{ProgressBar, ProgressStyle};
use reelmill_media::ids::AssetId;
use reqwest::{Body, Method, Response};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::api::Api;

/// Bytes read and sent at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Connections in a row that may fail without a byte getting through.
const MAX_FAILURES: u32 = 8;

/// The whole rest of a file may take this long in one request.
const PATCH_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// Uploads `file`, of which is made what the file `profile` says; returns the asset it becomes.
pub async fn run(
    api: &Api,
    file: &Path,
    name: Option<&str>,
    profile: Option<&Path>,
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
    if let Some(path) = profile {
        let profile =
            tokio::fs::read(path).await.with_context(|| format!("cannot read {}", path.display()))?;
        said.push_str(&format!(",profile {}", STANDARD.encode(profile)));
    }
    let create = api
        .request(Method::POST, "/v1/uploads")
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Length", length)
        .header("Upload-Metadata", said);
    let created = api.send(create).await?;
    let address = header(&created, "location")?;
    let asset: AssetId = header(&created, "reelmill-asset")?.parse()?;

    let bar = ProgressBar::new(length).with_style(bar_style()?).with_message("upload");
    let mut offset = 0;
    let mut failures = 0;
    while offset < length {
        match send_from(api, &address, file, offset, &bar).await {
            Ok(reached) if reached > offset => (offset, failures) = (reached, 0),
            Ok(_) => failures += 1,
            Err(error) if failures + 1 >= MAX_FAILURES => return Err(error),
            Err(_) => {
                failures += 1;
                tokio::time::sleep(Duration::from_millis(200 << failures)).await;
                if let Ok(reached) = durable_offset(api, &address).await {
                    offset = reached;
                }
            }
        }
        if failures >= MAX_FAILURES {
            bail!("the upload does not get on; it can be resumed at {address}");
        }
        bar.set_position(offset);
    }
    bar.finish();
    Ok(asset)
}

/// Sends everything from `offset` on; returns the offset that the server then has.
async fn send_from(
    api: &Api,
    address: &str,
    file: &Path,
    offset: u64,
    bar: &ProgressBar,
) -> anyhow::Result<u64> {
    let mut open = File::open(file).await?;
    open.seek(SeekFrom::Start(offset)).await?;
    let body = Body::wrap_stream(pieces(open, bar.clone()));
    let patch = api
        .request(Method::PATCH, address)
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Offset", offset)
        .header("Content-Type", "application/offset+octet-stream")
        .timeout(PATCH_DEADLINE)
        .body(body)
        .send()
        .await?;
    if !patch.status().is_success() {
        bail!("the server answered {} to a part of the upload", patch.status());
    }
    Ok(header(&patch, "upload-offset")?.parse()?)
}

async fn durable_offset(api: &Api, address: &str) -> anyhow::Result<u64> {
    let head = api.request(Method::HEAD, address).header("Tus-Resumable", "1.0.0");
    Ok(header(&api.send(head).await?, "upload-offset")?.parse()?)
}

fn pieces(file: File, bar: ProgressBar) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
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
