//! AAC as recorders and radio stations write it (ISO 13818-7 §6.2, ADTS): no file header, and a header before each frame.

use super::frames_follow::frames_follow;

/// Bytes of a frame's header, without a checksum.
const HEADER_BYTES: usize = 7;

/// The last sampling frequency that has a meaning.
const LAST_RATE: u8 = 12;

/// Whether `head`, the first bytes of a file, are such frames.
pub fn begins_with_frames(head: &[u8]) -> bool {
    frames_follow(head, HEADER_BYTES, frame_header)
}

/// What must be the same in all frames (version, profile, rate and channels), and the length of the frame in bytes.
fn frame_header(bytes: &[u8]) -> Option<([u8; 3], usize)> {
    let &[sync, b1, b2, b3, b4, b5, _] = bytes.first_chunk()?;
    // Twelve bits of sync, a version, and no layer.
    if sync != 0xff || b1 & 0xf6 != 0xf0 || b2 >> 2 & 0xf > LAST_RATE {
        return None;
    }
    let length = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5 >> 5);
    (length > HEADER_BYTES).then_some(([b1, b2, b3 & 0xc0], length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of AAC-LC at 44.1 kHz in stereo: 371 bytes each.
    fn frames(count: usize) -> Vec<u8> {
        let mut frame = vec![0; 371];
        frame[..7].copy_from_slice(&[0xff, 0xf1, 0x50, 0x80, 0x2e, 0x7f, 0xfc]);
        frame.repeat(count)
    }

    #[test]
    fn frames_are_told_from_chance() {
        assert!(begins_with_frames(&frames(10)));
        assert!(begins_with_frames(&frames(2)));
        assert!(!begins_with_frames(&frames(1)), "one header proves nothing");
        let mut other = frames(3);
        other[371 + 2] = 0x4c;
        assert!(!begins_with_frames(&other), "another rate in between");
        assert!(!begins_with_frames(&[0xff; 4096]));
        assert!(!begins_with_frames(&[]));
    }
}
