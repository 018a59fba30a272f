//! What of a sound in Apple's Core Audio Format is to be heard. libav's demuxer takes the packets for the sound: it adds up
//! what the file says of their ends.

use std::io;

use crate::mp4::read::ReadAt;

/// Bytes of the file's own header, which comes before the chunks.
const FILE_HEADER: u64 = 8;

/// Chunks looked at, at most.
const MOST_CHUNKS: usize = 1000;

/// Samples at the start of the first packet and at the end of the last that are not presented, by the packet table: after the
/// number of packets and that of samples, each in eight bytes, in four bytes each. Nothing where there is no such table.
pub fn trimmed(input: &mut impl ReadAt) -> io::Result<(u32, u32)> {
    let mut at = FILE_HEADER;
    for _ in 0..MOST_CHUNKS {
        let Some(body) = at.checked_add(12).filter(|body| body + 24 <= input.length()) else { break };
        let mut header = [0; 12 + 24];
        input.read_at(at, &mut header)?;
        let [k0, k1, k2, k3, size @ .., p0, p1, p2, p3, r0, r1, r2, r3] = header;
        if [k0, k1, k2, k3] == *b"pakt" {
            return Ok((u32::from_be_bytes([p0, p1, p2, p3]), u32::from_be_bytes([r0, r1, r2, r3])));
        }
        let size = size.first_chunk().map_or(0, |size| i64::from_be_bytes(*size));
        // Of unknown size is the last chunk alone.
        let Some(next) = u64::try_from(size).ok().and_then(|size| body.checked_add(size)) else { break };
        at = next;
    }
    Ok((0, 0))
}

/// How many samples a packet of ALAC holds that is not full: in 32 bits after the kind of its first element, in three bits, four
/// and twelve that do not matter, the mark of such a packet, and three more.
pub fn partial_alac(packet: &[u8]) -> Option<u32> {
    const MARK: u64 = 1 << (63 - 19);
    let bits = u64::from_be_bytes(*packet.first_chunk()?);
    (bits & MARK > 0).then_some((bits >> (64 - 23 - 32)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct File(Vec<u8>);

    impl ReadAt for File {
        fn length(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&mut self, offset: u64, to: &mut [u8]) -> io::Result<()> {
            let from = self.0.get(offset as usize..).unwrap_or_default();
            to.copy_from_slice(from.get(..to.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    fn chunk(kind: &[u8; 4], size: i64, body: &[u8]) -> Vec<u8> {
        [&kind[..], &size.to_be_bytes(), body].concat()
    }

    #[test]
    fn the_packet_table_says_what_is_not_heard() {
        let mut table = [0; 30];
        table[16..20].copy_from_slice(&2112u32.to_be_bytes());
        table[20..24].copy_from_slice(&500u32.to_be_bytes());
        let head = || b"caff\0\x01\0\0".to_vec();
        let file = |chunks: &[Vec<u8>]| File([head(), chunks.concat()].concat());
        let (described, table) = (chunk(b"desc", 32, &[0; 32]), chunk(b"pakt", 30, &table));
        assert_eq!(trimmed(&mut file(&[described.clone(), table.clone()])).unwrap(), (2112, 500));
        for other in [
            file(std::slice::from_ref(&described)),
            file(&[chunk(b"data", -1, &[]), table.clone()]),
            file(&[chunk(b"data", i64::MAX, &[]), table.clone()]),
            file(&[chunk(b"data", i64::MIN, &[]), table]),
            File(chunk(b"free", 0, &[]).repeat(2000)),
            File(head()),
        ] {
            let mut other = other;
            assert_eq!(trimmed(&mut other).unwrap(), (0, 0));
        }
    }

    #[test]
    fn packets_that_are_not_full_say_so() {
        // A pair of channels, of 4095 samples.
        let bits = 1u64 << 61 | 1 << 44 | 4095 << 9;
        assert_eq!(partial_alac(&bits.to_be_bytes()), Some(4095));
        assert_eq!(partial_alac(&(1u64 << 61).to_be_bytes()), None);
        assert_eq!(partial_alac(&[0xff; 7]), None);
    }
}
