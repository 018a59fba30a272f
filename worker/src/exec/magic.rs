//! What a file is, by its first bytes. Its name is never asked, and libav never guesses.

use reelmill_media::index::Container;
use reelmill_media::task::{Failure, FailureCode};

use super::failure::fail;
use super::{adts, mpeg_audio};

/// Bytes to look at.
pub const HEAD_BYTES: usize = 4096;

/// First boxes of MP4 and QuickTime files.
const MP4_STARTS: [&[u8; 4]; 9] =
    [b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof"];

/// Brands of still pictures in the same boxes (ISO 23008-12, AVIF).
const PICTURE_BRANDS: [&[u8; 4]; 6] = [b"heic", b"heix", b"mif1", b"avif", b"crx ", b"jpeg"];

/// Files that are a picture: their first bytes and their name.
const PICTURES: [(&[u8], &str); 8] = [
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"8BPS", "a Photoshop image"),
    (b"\0\0\x01\0", "an icon"),
];

/// Containers that begin with a mark of their own.
const MARKED: [(&[u8], Container); 9] = [
    (b"\x1a\x45\xdf\xa3", Container::Matroska),
    (b"FLV\x01", Container::Flv),
    (b"OggS", Container::Ogg),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Container::Asf),
    (b"\0\0\x01\xba", Container::MpegPs),
    (b"RF64", Container::Wav),
    (b"fLaC", Container::Flac),
    (b"caff\0\x01", Container::Caf),
    (b"ID3", Container::MpegAudio),
];

/// Containers that we know of and do not read.
const UNSUPPORTED: [(&[u8], &str); 3] =
    [(b"\x06\x0e\x2b\x34", "MXF"), (b".RMF", "RealMedia"), (b"MThd", "MIDI")];

/// Texts that would have a demuxer open other files.
const PLAYLISTS: [&[u8]; 5] = [b"#EXTM3U", b"<?xml", b"<MPD", b"v=0", b"[playlist]"];

/// The container that begins with `head`, of a file of `length` bytes.
pub fn container(head: &[u8], length: u64) -> Result<Container, Failure> {
    if length == 0 {
        return Err(fail(FailureCode::Empty, "the file is empty"));
    }
    let not_media = |what: String| Err(fail(FailureCode::NotMedia, what));
    if let Some((_, name)) = PICTURES.iter().find(|(magic, _)| head.starts_with(magic)) {
        return not_media(format!("the file is {name}, not a video"));
    }
    if head.starts_with(b"RIFF") {
        return match head.get(8..12) {
            Some(b"AVI ") => Ok(Container::Avi),
            Some(b"WAVE") => Ok(Container::Wav),
            Some(b"WEBP") => not_media("the file is a WebP image, not a video".into()),
            Some(_) | None => not_media("the file is no video container that is known here".into()),
        };
    }
    if head.starts_with(b"FORM") && matches!(head.get(8..12), Some(b"AIFF" | b"AIFC")) {
        return Ok(Container::Aiff);
    }
    if let Some(kind) = head.get(4..8).filter(|kind| MP4_STARTS.iter().any(|start| kind == *start)) {
        if kind == b"ftyp" && head.get(8..12).is_some_and(|b| PICTURE_BRANDS.iter().any(|p| b == *p)) {
            return not_media("the file is a HEIF or AVIF image, not a video".into());
        }
        return Ok(Container::Mp4);
    }
    // A tag in front belongs to what comes after it, which is mostly MPEG audio.
    let begins = id3_bytes(head).and_then(|tag| head.get(tag..)).unwrap_or(head);
    if let Some((_, container)) = MARKED.iter().find(|(magic, _)| begins.starts_with(magic)) {
        return Ok(*container);
    }
    if is_transport_stream(head) {
        return Ok(Container::MpegTs);
    }
    if mpeg_audio::begins_with_frames(begins) {
        return Ok(Container::MpegAudio);
    }
    if adts::begins_with_frames(begins) {
        return Ok(Container::Adts);
    }
    if let Some((_, name)) = UNSUPPORTED.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(fail(FailureCode::Unsupported, format!("{name} is not supported")));
    }
    let text = head.trim_ascii_start();
    if PLAYLISTS.iter().any(|start| text.starts_with(start)) {
        return not_media("the file is a playlist or a description, not media".into());
    }
    if head.iter().all(|b| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..)) {
        return not_media("the file is text, not media".into());
    }
    not_media("the file is no video container that is known here".into())
}

/// The length of an ID3v2 tag in front, header included (ID3v2.4 §3.1): seven bits in each of four bytes.
fn id3_bytes(head: &[u8]) -> Option<usize> {
    let size = head.get(6..10).filter(|_| head.starts_with(b"ID3"))?;
    Some(10 + size.iter().fold(0, |all, byte| all << 7 | usize::from(byte & 0x7f)))
}

/// Sync bytes 188 apart (ISO 13818-1 §2.4.3.2), or 192 apart as in M2TS; packets may begin after some debris.
fn is_transport_stream(head: &[u8]) -> bool {
    const SYNCS: usize = 5;
    [188usize, 192].into_iter().any(|step| {
        (0..step).any(|start| {
            let mut syncs = (0..SYNCS).map(|i| head.get(start + i * step));
            // A short file may hold fewer packets, but then all that fit must match.
            let first = syncs.next().flatten() == Some(&0x47);
            first && head.len() > start + step && syncs.flatten().all(|b| *b == 0x47)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(head: &[u8]) -> FailureCode {
        container(head, head.len() as u64).unwrap_err().code
    }

    #[test]
    fn tells_files_apart() {
        assert_eq!(container(b"\0\0\0\x18ftypisom....", 24), Ok(Container::Mp4));
        assert_eq!(container(b"RIFF\0\0\0\0AVI LIST", 99), Ok(Container::Avi));
        assert_eq!(container(b"\x1a\x45\xdf\xa3....", 99), Ok(Container::Matroska));
        let mut ts = vec![0u8; 192 * 6];
        for i in 0..6 {
            ts[i * 192 + 4] = 0x47;
        }
        assert_eq!(container(&ts, 2000), Ok(Container::MpegTs));
        assert_eq!(container(b"", 0).unwrap_err().code, FailureCode::Empty);
        assert_eq!(code(b"\xff\xd8\xff\xe1...."), FailureCode::NotMedia);
        assert_eq!(code(b"\0\0\0\x18ftypheic...."), FailureCode::NotMedia);
        assert_eq!(code(b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n"), FailureCode::NotMedia);
        assert_eq!(code(b"Dear all, this is no video."), FailureCode::NotMedia);
        assert_eq!(container(b"OggS\0\x02......", 99), Ok(Container::Ogg));
        assert_eq!(container(b"RIFF\0\0\0\0WAVEfmt ", 99), Ok(Container::Wav));
        assert_eq!(container(b"FORM\0\0\0\x2eAIFFCOMM", 99), Ok(Container::Aiff));
        assert_eq!(code(b"FORM\0\0\0\x2eILBMBMHD"), FailureCode::NotMedia);
        assert_eq!(container(b"caff\0\x01\0\0desc", 99), Ok(Container::Caf));
        assert_eq!(container(b"ID3\x04\0\0\0\0\x01\0", 9999), Ok(Container::MpegAudio), "a tag of 128 bytes");
        assert_eq!(container(b"ID3\x04\0\0\0\0\0\x02..fLaC", 9999), Ok(Container::Flac));
        assert_eq!(code(b".RMF\0\0\0\x12...."), FailureCode::Unsupported);
        assert_eq!(code(&[0u8; 64]), FailureCode::NotMedia);
    }
}
