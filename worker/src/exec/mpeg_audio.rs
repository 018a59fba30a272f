//! MPEG audio (ISO 11172-3, ISO 13818-3) has no file header: frames follow each other, each with its own.

use super::frames_follow::frames_follow;

/// Bytes of a frame's header.
const HEADER_BYTES: usize = 4;

/// kbit/s by the header's four bits: layer 2 and 3 of MPEG-1, and both of MPEG-2 and 2.5.
const KBPS: [[u32; 14]; 3] = [
    [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

/// Samples per second of MPEG-1 by the header's two bits; MPEG-2 has half of it, MPEG-2.5 a quarter.
const RATES: [u32; 3] = [44_100, 48_000, 32_000];

/// Whether `head`, the first bytes of a file, are frames of layer 2 or 3.
pub fn begins_with_frames(head: &[u8]) -> bool {
    frames_follow(head, HEADER_BYTES, frame_header)
}

/// What must be the same in all frames (version, layer and rate), and the length of the frame in bytes.
fn frame_header(bytes: &[u8]) -> Option<([u8; 2], usize)> {
    let &[sync, b1, b2, _] = bytes.first_chunk()?;
    if sync != 0xff || b1 & 0xe0 != 0xe0 {
        return None;
    }
    let (version, layer) = (b1 >> 3 & 3, b1 >> 1 & 3);
    // How often the rate is halved, and what row of bit rates holds.
    let (halved, row) = match (version, layer) {
        (3, 2) => (0, 0),
        (3, 1) => (0, 1),
        (2, 1 | 2) => (1, 2),
        (0, 1 | 2) => (2, 2),
        _ => return None,
    };
    let kbps = KBPS[row].get(usize::from(b2 >> 4).checked_sub(1)?)?;
    let rate = RATES.get(usize::from(b2 >> 2 & 3))? >> halved;
    // Layer 3 of MPEG-2 has half as many samples in a frame.
    let samples = if layer == 1 && halved > 0 { 576 } else { 1152 };
    let length = samples / 8 * kbps * 1000 / rate + u32::from(b2 >> 1 & 1);
    Some(([b1 & 0xfe, b2 & 0x0c], length as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of MPEG-1 layer 3 with 128 kbit/s at 44.1 kHz: 417 bytes each.
    fn frames(count: usize) -> Vec<u8> {
        let mut frame = vec![0; 417];
        frame[..4].copy_from_slice(&[0xff, 0xfb, 0x90, 0x64]);
        frame.repeat(count)
    }

    #[test]
    fn frames_are_told_from_chance() {
        assert!(begins_with_frames(&frames(10)));
        assert!(begins_with_frames(&frames(2)));
        assert!(!begins_with_frames(&frames(1)), "one header proves nothing");
        let mut other = frames(3);
        other[417 + 1] = 0xf3;
        assert!(!begins_with_frames(&other), "another version in between");
        assert!(!begins_with_frames(&[0xff; 4096]));
        assert!(!begins_with_frames(&[]));
    }
}
