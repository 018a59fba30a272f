//! MP4 files whose index lies behind their media, as cameras write them. Its end is sent first: then the work can begin
//! while the rest is on its way.

use std::io::{self, SeekFrom};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt};

/// A smaller file is sent as it is, in bytes.
const LEAST_HEAD_BYTES: u64 = 1 << 20;
/// Boxes passed before the index must have been found.
const MAX_BOXES: usize = 64;

/// Where the end begins that is worth sending first; `None` where the beginning says it all.
pub async fn begins<F: AsyncRead + AsyncSeek + Unpin>(file: &mut F, length: u64) -> io::Result<Option<u64>> {
    let mut at = 0u64;
    let mut media = false;
    for _ in 0..MAX_BOXES {
        let mut head = [0; 16];
        file.seek(SeekFrom::Start(at)).await?;
        if at.saturating_add(16) > length || file.read_exact(&mut head).await.is_err() {
            return Ok(None);
        }
        // Size, or where that is 1 a longer one, and kind (ISO 14496-12 §4.2).
        let [a, b, c, d, kind @ .., e, f, g, h, i, j, k, l] = head;
        match &kind {
            b"moov" => return Ok(Some(at).filter(|at| media && *at >= LEAST_HEAD_BYTES)),
            b"mdat" => media = true,
            b"ftyp" | b"free" | b"skip" | b"wide" | b"uuid" | b"pnot" | b"udta" | b"meta" => {}
            _ => return Ok(None),
        }
        let size = match u32::from_be_bytes([a, b, c, d]) {
            0 => return Ok(None),
            1 => u64::from_be_bytes([e, f, g, h, i, j, k, l]),
            size => u64::from(size),
        };
        match at.checked_add(size) {
            Some(next) if size >= 8 => at = next,
            Some(_) | None => return Ok(None),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn file(boxes: &[(&[u8; 4], u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, size) in boxes {
            bytes.extend(size.to_be_bytes());
            bytes.extend(*kind);
            bytes.resize(bytes.len() + *size as usize - 8, 0);
        }
        bytes
    }

    async fn of(bytes: Vec<u8>) -> Option<u64> {
        let length = bytes.len() as u64;
        begins(&mut Cursor::new(bytes), length).await.unwrap()
    }

    #[tokio::test]
    async fn the_end_is_worth_it_where_the_index_lies_behind_much_media() {
        let media = 3 << 20;
        let late = file(&[(b"ftyp", 24), (b"wide", 8), (b"mdat", media), (b"moov", 5000)]);
        assert_eq!(of(late).await, Some(32 + u64::from(media)));
        let mut long = file(&[(b"ftyp", 24), (b"mdat", media), (b"moov", 5000)]);
        long[24..28].copy_from_slice(&1u32.to_be_bytes());
        long[32..40].copy_from_slice(&u64::from(media).to_be_bytes());
        assert_eq!(of(long).await, Some(24 + u64::from(media)));
        for other in [
            file(&[(b"ftyp", 24), (b"moov", 5000), (b"mdat", media)]),
            file(&[(b"ftyp", 24), (b"mdat", 1000), (b"moov", 5000)]),
            file(&[(b"ftyp", 24), (b"mdat", media)]),
            file(&[(b"RIFF", media), (b"moov", 5000)]),
            vec![0; 100],
            Vec::new(),
        ] {
            assert_eq!(of(other).await, None);
        }
    }
}
