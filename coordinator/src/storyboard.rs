//! Sprite sheets: the thumbnails that workers took, put side by side. Small enough to be done here, in pure Rust: a
//! hundred thumbnails take some 30 ms.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use image::codecs::jpeg::JpegEncoder;
use image::{ImageError, ImageFormat, Limits, RgbImage};
use reelmill_media::ids::BlobHash;
use reelmill_media::image::Image;
use reelmill_media::keys::BlobKind;
use reelmill_media::presentation::{Sheet, Storyboard};
use reelmill_platform::store::{Store, StoreError};
use tokio::sync::Semaphore;

/// Thumbnails in a full row of a sheet.
const COLUMNS: u32 = 10;
/// Rows of a full sheet: with [`COLUMNS`], all thumbnails of most assets.
const ROWS: u32 = 10;
/// Thumbnails read at once.
const PARALLEL: usize = 16;
/// Sheets drawn at once.
const DRAWN_AT_ONCE: usize = 2;
/// JPEG quality, 1 to 100.
const QUALITY: u8 = 70;
/// A side of a thumbnail is no longer than this, in pixels.
const MAX_SIDE: u32 = 4096;

/// Why there is no storyboard.
#[derive(Debug, thiserror::Error)]
pub enum StoryboardError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thumbnail is no picture of its size.
    #[error("a thumbnail cannot be drawn: {0}")]
    Image(#[from] ImageError),
    /// A thumbnail has another size than the first.
    #[error("thumbnails differ in size")]
    Size,
    /// Drawing broke off.
    #[error("drawing a sprite sheet broke off")]
    BrokeOff,
}

/// Draws storyboards. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Storyboards {
    store: Store,
    drawing: Arc<Semaphore>,
}

impl Storyboards {
    /// Over a store.
    pub fn new(store: Store) -> Self {
        Self { store, drawing: Arc::new(Semaphore::new(DRAWN_AT_ONCE)) }
    }

    /// Draws the sheets of `thumbnails` and stores them; `None` without thumbnails. The same thumbnails give the same
    /// sheets.
    pub async fn draw(&self, thumbnails: &[Image]) -> Result<Option<Storyboard>, StoryboardError> {
        let mut sheets = Vec::new();
        for part in thumbnails.chunks((COLUMNS * ROWS) as usize) {
            let hashes: Vec<BlobHash> = part.iter().map(|thumbnail| thumbnail.hash).collect();
            let pictures: Vec<Bytes> = stream::iter(hashes)
                .map(|hash| async move { self.store.get_blob(BlobKind::Image, hash).await })
                .buffered(PARALLEL)
                .map_ok(|blob| Bytes::copy_from_slice(blob.bytes()))
                .try_collect()
                .await?;
            // Never closed, so there is always a permit in the end.
            let _permit = self.drawing.acquire().await;
            let drawn = tokio::task::spawn_blocking(move || sheet(&pictures)).await;
            let jpeg = drawn.map_err(|_| StoryboardError::BrokeOff)??;
            let (bytes, hash) = (jpeg.len() as u64, BlobHash::of(&jpeg));
            self.store.put_hashed(BlobKind::Image, hash, Bytes::from(jpeg)).await?;
            sheets.push(Sheet { bytes, hash });
        }
        Ok((!sheets.is_empty()).then_some(Storyboard { columns: COLUMNS, rows: ROWS, sheets }))
    }
}

/// One sheet, only as wide and high as its pictures need.
fn sheet(pictures: &[Bytes]) -> Result<Vec<u8>, StoryboardError> {
    let tiles = pictures.iter().map(|jpeg| decode(jpeg)).collect::<Result<Vec<_>, _>>()?;
    let Some((width, height)) = tiles.first().map(RgbImage::dimensions) else {
        return Err(StoryboardError::Size);
    };
    if tiles.iter().any(|tile| tile.dimensions() != (width, height)) {
        return Err(StoryboardError::Size);
    }
    let count = tiles.len() as u32;
    let mut whole = RgbImage::new(width * count.min(COLUMNS), height * count.div_ceil(COLUMNS));
    for (n, tile) in (0u32..).zip(&tiles) {
        let (x, y) = (n % COLUMNS * width, n / COLUMNS * height);
        image::imageops::replace(&mut whole, tile, i64::from(x), i64::from(y));
    }
    let mut out = Vec::new();
    JpegEncoder::new_with_quality(&mut out, QUALITY).encode_image(&whole)?;
    Ok(out)
}

fn decode(jpeg: &[u8]) -> Result<RgbImage, ImageError> {
    let mut reader = image::ImageReader::with_format(std::io::Cursor::new(jpeg), ImageFormat::Jpeg);
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    reader.limits(limits);
    Ok(reader.decode()?.to_rgb8())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(level: u8, width: u32) -> Bytes {
        let mut out = Vec::new();
        let picture = RgbImage::from_pixel(width, 16, image::Rgb([level; 3]));
        JpegEncoder::new_with_quality(&mut out, 95).encode_image(&picture).unwrap();
        Bytes::from(out)
    }

    #[test]
    fn each_thumbnail_has_its_place_on_the_sheet() {
        let pictures: Vec<Bytes> = (0..23).map(|n| grey(n * 10, 32)).collect();
        let drawn = decode(&sheet(&pictures).unwrap()).unwrap();
        assert_eq!(drawn.dimensions(), (320, 48));
        for n in 0..23u32 {
            let pixel = drawn.get_pixel(n % 10 * 32 + 16, n / 10 * 16 + 8).0[0];
            assert!(pixel.abs_diff(n as u8 * 10) < 6, "thumbnail {n} is {pixel}");
        }
    }

    #[test]
    fn what_is_no_picture_or_of_another_size_is_refused() {
        assert!(matches!(sheet(&[grey(1, 32), grey(1, 48)]), Err(StoryboardError::Size)));
        assert!(matches!(sheet(&[Bytes::from_static(b"no picture")]), Err(StoryboardError::Image(_))));
    }
}
