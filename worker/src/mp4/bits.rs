//! A reader of bits, most significant first, for the headers of video streams.

/// Bits not read yet. Reads past the end are `None`.
#[derive(Debug, Clone)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    /// At the first bit of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next bit.
    pub fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// The next `n` bits, at most 32.
    pub fn take(&mut self, n: u32) -> Option<u32> {
        (0..n).try_fold(0u32, |value, _| Some(value << 1 | u32::from(self.flag()?)))
    }

    /// Passes over `n` bits.
    pub fn skip(&mut self, n: usize) -> Option<()> {
        self.at = self.at.checked_add(n).filter(|at| *at <= self.bytes.len() * 8)?;
        Some(())
    }

    /// An Exp-Golomb number: `ue(v)` of H.264 and HEVC, `uvlc()` of AV1.
    pub fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        if zeros >= 32 { None } else { Some(self.take(zeros)? + ((1u32 << zeros) - 1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_both_kinds() {
        // 101, then ue(v) 0 = 1, 1 = 010, 4 = 00101, then the end.
        let mut bits = Bits::new(&[0b1011_0100, 0b0101_0000]);
        assert_eq!(bits.take(3), Some(5));
        assert_eq!((bits.exp_golomb(), bits.exp_golomb(), bits.exp_golomb()), (Some(0), Some(1), Some(4)));
        assert_eq!(bits.skip(5), None);
        assert_eq!(bits.skip(4), Some(()));
        assert_eq!(bits.flag(), None);
        assert_eq!(Bits::new(&[0; 9]).exp_golomb(), None);
    }
}
