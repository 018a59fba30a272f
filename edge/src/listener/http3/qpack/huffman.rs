//! Strings by Huffman's code (RFC 7541 §5.2 and appendix B).
//!
//! The code is canonical: of codes of equal length the lower one is the lower byte's, and each length goes on where the
//! shorter ones ended. So their lengths say all.

/// How many bits each byte takes. What ends a string would take 30, the last ones there are.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The longest code, in bits.
const LONGEST: usize = 30;

/// Codes of so many bits or fewer are looked up at once; those are of all that is usual in a request.
const SHORT: usize = 10;

static CODE: Code = Code::new();

/// What the bits of a string are compared with, highest bit first in 32.
struct Code {
    /// By the first bits: a byte and the length of its code, which is 0 where it is a longer one.
    short: [(u8, u8); 1 << SHORT],
    /// By length: the first code that is not of this length or less, …
    beyond: [u32; LONGEST + 1],
    /// … and how many bytes have shorter ones.
    before: [u16; LONGEST + 1],
    /// By code.
    bytes: [u8; 256],
}

impl Code {
    const fn new() -> Self {
        let mut code = Self {
            short: [(0, 0); 1 << SHORT],
            beyond: [0; LONGEST + 1],
            before: [0; LONGEST + 1],
            bytes: [0; 256],
        };
        let (mut next, mut count, mut length) = (0u32, 0, 1);
        while length <= LONGEST {
            code.before[length] = count as u16;
            let mut byte = 0;
            while byte < 256 {
                if LENGTHS[byte] as usize == length {
                    code.bytes[count] = byte as u8;
                    count += 1;
                    let mut at = (next >> (32 - SHORT)) as usize;
                    next += 1 << (32 - length);
                    while length <= SHORT && at < (next >> (32 - SHORT)) as usize {
                        code.short[at] = (byte as u8, length as u8);
                        at += 1;
                    }
                }
                byte += 1;
            }
            code.beyond[length] = next;
            length += 1;
        }
        code
    }

    /// The byte whose code these bits begin with, and its length; `None` of the end.
    fn first(&self, bits: u32) -> Option<(u8, u32)> {
        let (byte, length) = self.short[(bits >> (32 - SHORT)) as usize];
        if length > 0 {
            return Some((byte, length.into()));
        }
        let length = (SHORT + 1..=LONGEST).find(|length| bits < self.beyond[*length])?;
        let nth = (bits - self.beyond[length - 1]) >> (32 - length);
        Some((self.bytes[usize::from(self.before[length]) + nth as usize], length as u32))
    }
}

/// Appends the text of a string; `None` where it is not one.
pub(super) fn decode(coded: &[u8], text: &mut Vec<u8>) -> Option<()> {
    let mut coded = coded.iter();
    // Bits not yet looked at, highest first, and how many.
    let (mut window, mut bits) = (0u64, 0u32);
    loop {
        while bits <= 56
            && let Some(byte) = coded.next()
        {
            window |= u64::from(*byte) << (56 - bits);
            bits += 8;
        }
        match CODE.first((window >> 32) as u32) {
            Some((byte, length)) if length <= bits => {
                text.push(byte);
                window <<= length;
                bits -= length;
            }
            // Ones fill up the last byte.
            Some(_) | None => return (bits < 8 && window.leading_ones() == bits).then_some(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        decode(coded, &mut text).map(|()| text)
    }

    /// By the codes' definition, bit by bit.
    fn encoded(text: &[u8]) -> Vec<u8> {
        let mut order: Vec<u8> = (0..=255).collect();
        order.sort_by_key(|byte| LENGTHS[usize::from(*byte)]);
        let mut codes = [0u32; 256];
        let (mut next, mut last) = (0, LENGTHS[usize::from(order[0])]);
        for byte in order {
            let length = LENGTHS[usize::from(byte)];
            next <<= length - last;
            codes[usize::from(byte)] = next;
            (next, last) = (next + 1, length);
        }
        let mut bits: Vec<bool> = Vec::new();
        for byte in text.iter().map(|byte| usize::from(*byte)) {
            bits.extend((0..LENGTHS[byte]).rev().map(|bit| codes[byte] >> bit & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        bits.chunks(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7541 §C.4, §C.6
        for (coded, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("6402", "302"),
            ("aec3771a4b", "private"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
            ("640eff", "307"),
            ("9bd9ab", "gzip"),
            (
                "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
        ] {
            assert_eq!(decoded(&bytes(coded)).unwrap(), text.as_bytes());
            assert_eq!(encoded(text.as_bytes()), bytes(coded));
        }
    }

    /// With what ends a string, no code is left over and none begins another.
    #[test]
    fn the_code_is_complete() {
        let share = |length: u8| 1u64 << (LONGEST as u8 - length);
        assert_eq!(LENGTHS.iter().map(|length| share(*length)).sum::<u64>() + 1, 1 << LONGEST);
    }

    #[test]
    fn filling_is_of_ones_and_short() {
        assert_eq!(decoded(&[]), Some(vec![]));
        // `0` is 00000.
        assert_eq!(decoded(&[0b0000_0111]), Some(b"0".to_vec()));
        for wrong in
            [&[0b0000_0110][..], &[0b0000_0111, 0xff], &[0xff], &[0xff, 0xff, 0xff, 0xff], &[0xff; 9]]
        {
            assert_eq!(decoded(wrong), None, "{wrong:x?}");
        }
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(decoded(&encoded(&text)), Some(text));
        }

        #[test]
        fn what_is_taken_is_the_only_spelling(coded in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(text) = decoded(&coded) {
                prop_assert!(text.len() <= coded.len() * 8 / 5);
                prop_assert_eq!(encoded(&text), coded);
            }
        }
    }
}
