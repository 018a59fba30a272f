//! Numbers of variable length (RFC 9000 §16).

/// A number and what follows it; `None` until all of it is there.
pub(super) fn read(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let (number, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    let value =
        number.iter().skip(1).fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, rest))
}

/// Appends a number below 2^62 in as few bytes as it takes.
pub(super) fn write(to: &mut Vec<u8>, number: u64) {
    match number {
        0..=0x3f => to.push(number as u8),
        0x40..=0x3fff => to.extend_from_slice(&(number as u16 | 0x4000).to_be_bytes()),
        0x4000..=0x3fff_ffff => to.extend_from_slice(&(number as u32 | 0x8000_0000).to_be_bytes()),
        _ => to.extend_from_slice(&(number | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 9000 §A.1
        for (bytes, number) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ] {
            assert_eq!(read(bytes), Some((number, &[][..])));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(shift in 2u32..64, bits in any::<u64>(), more in any::<u8>()) {
            let number = bits >> shift;
            let mut bytes = Vec::new();
            write(&mut bytes, number);
            for cut in 0..bytes.len() {
                prop_assert_eq!(read(&bytes[..cut]), None);
            }
            bytes.push(more);
            prop_assert_eq!(read(&bytes), Some((number, &[more][..])));
        }
    }
}
