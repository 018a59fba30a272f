//! Reads a field section (RFC 9204 §4.5).

use super::huffman;
use super::static_table::FIELDS;
use crate::listener::http3::fault::{Code, Fault};

/// What each field counts for beside its bytes (RFC 9114 §4.2.2).
const FIELD_OVERHEAD: usize = 32;

/// A field section is none, or needs what only a dynamic table has.
const UNDECODABLE: Fault = Fault::Connection(Code::DecompressionFailed);

/// A field's name and value.
type Field<'t> = (&'t [u8], &'t [u8]);

/// The fields of a section, one by one.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    /// Bytes that may still come, as RFC 9114 §4.2.2 counts them.
    room: usize,
    /// Of the last field, what was Huffman-coded.
    name: Vec<u8>,
    value: Vec<u8>,
}

/// A string as it stands in a section.
#[derive(Debug, Clone, Copy)]
enum Text<'a> {
    Plain(&'a [u8]),
    Coded(&'a [u8]),
}

impl<'a> Fields<'a> {
    /// Begins with a section whose fields may come to `limit` bytes.
    pub(crate) fn new(section: &'a [u8], limit: usize) -> Result<Self, Fault> {
        let mut fields = Self { rest: section, room: limit, name: Vec::new(), value: Vec::new() };
        // §4.5.1: a section that needs no insertion, and a base that is not negative and of no use then.
        let (insertions, _) = fields.integer(8)?;
        let (_, sign) = fields.integer(7)?;
        if insertions != 0 || sign != 0 { Err(UNDECODABLE) } else { Ok(fields) }
    }

    /// The next field.
    pub(crate) fn next(&mut self) -> Result<Option<Field<'_>>, Fault> {
        let Some(&first) = self.rest.first() else { return Ok(None) };
        let (name, value) = match first {
            // §4.5.2: an entry of the static table.
            0b1100_0000.. => {
                let (name, value) = self.entry(6)?;
                (Text::Plain(name.as_bytes()), Text::Plain(value.as_bytes()))
            }
            // §4.5.4: a value under the name of one.
            0b0101_0000..=0b0101_1111 | 0b0111_0000..=0b0111_1111 => {
                let (name, _) = self.entry(4)?;
                (Text::Plain(name.as_bytes()), self.text(7)?)
            }
            // §4.5.6: both spelled out.
            0b0010_0000..=0b0011_1111 => (self.text(3)?, self.text(7)?),
            // §4.5.2 to §4.5.5: entries of the dynamic table.
            _ => return Err(UNDECODABLE),
        };
        let name = name.read(&mut self.name)?;
        let value = value.read(&mut self.value)?;
        let size = name.len() + value.len() + FIELD_OVERHEAD;
        self.room = self.room.checked_sub(size).ok_or(Fault::TooLarge)?;
        Ok(Some((name, value)))
    }

    fn entry(&mut self, bits: u32) -> Result<(&'static str, &'static str), Fault> {
        let (index, _) = self.integer(bits)?;
        usize::try_from(index).ok().and_then(|index| FIELDS.get(index)).copied().ok_or(UNDECODABLE)
    }

    /// A string whose length has so many bits in its first byte, after one that says how it is spelled.
    fn text(&mut self, bits: u32) -> Result<Text<'a>, Fault> {
        let (length, flags) = self.integer(bits)?;
        let length = usize::try_from(length).map_err(|_| UNDECODABLE)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(UNDECODABLE)?;
        self.rest = rest;
        Ok(if flags & 1 == 1 { Text::Coded(text) } else { Text::Plain(text) })
    }

    /// A number in the last `bits` of a byte and those after it (RFC 7541 §5.1), and the bits before it.
    fn integer(&mut self, bits: u32) -> Result<(u64, u8), Fault> {
        let (first, mut rest) = self.rest.split_first().ok_or(UNDECODABLE)?;
        let most = u8::MAX >> (8 - bits);
        let mut number = u64::from(first & most);
        if first & most == most {
            // RFC 9204 §4.1.1: numbers of 62 bits must be understood; nine bytes can say them.
            let mut shift = 0;
            loop {
                let (byte, after) = rest.split_first().ok_or(UNDECODABLE)?;
                rest = after;
                number += u64::from(byte & 0x7f) << shift;
                shift += 7;
                match byte & 0x80 {
                    0 => break,
                    _ if shift > 56 => return Err(UNDECODABLE),
                    _ => {}
                }
            }
        }
        self.rest = rest;
        Ok((number, first.checked_shr(bits).unwrap_or(0)))
    }
}

impl<'a> Text<'a> {
    fn read<'t>(self, room: &'t mut Vec<u8>) -> Result<&'t [u8], Fault>
    where
        'a: 't,
    {
        match self {
            Self::Plain(text) => Ok(text),
            Self::Coded(text) => {
                room.clear();
                huffman::decode(text, room).ok_or(UNDECODABLE)?;
                Ok(room)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
    use proptest::prelude::*;

    use super::super::encode::encode;
    use super::*;

    const LIMIT: usize = 16 * 1024;

    type Owned = (Vec<u8>, Vec<u8>);

    fn decoded(section: &[u8], limit: usize) -> Result<Vec<Owned>, Fault> {
        let mut fields = Fields::new(section, limit)?;
        let mut all = Vec::new();
        while let Some((name, value)) = fields.next()? {
            all.push((name.to_vec(), value.to_vec()));
        }
        Ok(all)
    }

    fn field(name: &str, value: &str) -> Owned {
        (name.into(), value.into())
    }

    #[test]
    fn every_form_without_a_dynamic_table_is_read() {
        // RFC 9204 §B.1
        let section = b"\x00\x00\x51\x0b/index.html";
        assert_eq!(decoded(section, LIMIT).unwrap(), [field(":path", "/index.html")]);
        // §4.5.1.2: any base will do, also one of 62 bits.
        let base = [0x7f, 0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f];
        let based = [&[0x00], &base[..], b"\x51\x0b/index.html"].concat();
        assert_eq!(decoded(&based, LIMIT).unwrap(), [field(":path", "/index.html")]);
        // The last entry, a value by Huffman's code, and a name by it; never-indexed as well.
        let section = [
            &[0x00, 0x00, 0xff, 98 - 63, 0x50, 0x8c][..],
            &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff],
            &[0x3f, 0x01, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f, 0x01, b'v'],
            &[0x71, 0x01, b'/'],
        ]
        .concat();
        let expected = [
            field("x-frame-options", "sameorigin"),
            field(":authority", "www.example.com"),
            field("custom-key", "v"),
            field(":path", "/"),
        ];
        assert_eq!(decoded(&section, LIMIT).unwrap(), expected);
    }

    #[test]
    fn what_needs_a_dynamic_table_or_is_cut_off_is_refused() {
        for section in [
            &[][..],
            &[0x00],
            // An insertion, a negative base.
            &[0x01, 0x00],
            &[0x00, 0x80],
            // Dynamic: indexed, named, both beyond the base.
            &[0x00, 0x00, 0x80],
            &[0x00, 0x00, 0x40, 0x00],
            &[0x00, 0x00, 0x10],
            &[0x00, 0x00, 0x00, 0x00],
            // Entry 99, a number without end, a string that is cut off, one that is none.
            &[0x00, 0x00, 0xff, 36],
            &[0x00, 0x00, 0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
            &[0x00, 0x00, 0x51, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0x00, 0x00, 0x51, 0x02, b'/'],
            &[0x00, 0x00, 0x51, 0x81, 0x00],
        ] {
            assert_eq!(decoded(section, LIMIT), Err(UNDECODABLE), "{section:x?}");
        }
    }

    #[test]
    fn fields_count_for_32_bytes_more_than_they_have() {
        let section = b"\x00\x00\x51\x0b/index.html";
        let size = 5 + 11 + 32;
        assert!(decoded(section, size).is_ok());
        assert_eq!(decoded(section, size - 1), Err(Fault::TooLarge));
        // However little each of them takes here.
        let many = [&[0, 0][..], &[0xc1; 1000]].concat();
        assert_eq!(decoded(&many, LIMIT), Err(Fault::TooLarge));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            status in 200u16..600,
            fields in proptest::collection::vec(("[a-z-]{1,40}", "[ -~]{0,200}"), 0..20),
        ) {
            let status = StatusCode::from_u16(status).unwrap();
            let mut map = HeaderMap::new();
            for (name, value) in &fields {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                map.append(name, HeaderValue::from_str(value).unwrap());
            }
            let own = map.iter().map(|(name, value)| (name.as_str().into(), value.as_bytes().to_vec()));
            let expected: Vec<Owned> = std::iter::once(field(":status", status.as_str())).chain(own).collect();
            prop_assert_eq!(decoded(&encode(status, &map), LIMIT), Ok(expected));
        }

        #[test]
        fn any_bytes_are_survived(section in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(fields) = decoded(&[&[0, 0], &section[..]].concat(), LIMIT) {
                let size: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
                prop_assert!(size <= LIMIT);
            }
        }
    }
}
