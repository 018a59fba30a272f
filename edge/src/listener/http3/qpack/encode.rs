//! The field section of a response.
//!
//! Strings stand as they are: Huffman's code would save seventy bytes, which fit into the packet anyway, and take more of a
//! processor.

use http::{HeaderMap, StatusCode};

use super::static_table::FIELDS;

/// Those of the table's fields that a response may have.
const OF_RESPONSES: [u8; 34] = [
    2, 4, 6, 7, 12, 32, 33, 35, 36, 39, 40, 44, 45, 46, 49, 50, 51, 52, 53, 54, 59, 60, 61, 75, 76, 77, 78,
    79, 83, 85, 92, 93, 97, 98,
];

/// Any of the table's entries named `:status`.
const STATUS: u8 = 24;

/// Encodes status and fields.
pub(crate) fn encode(status: StatusCode, fields: &HeaderMap) -> Vec<u8> {
    let length: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let mut section = Vec::with_capacity(length + 8);
    // No insert count and no base: nothing refers to the dynamic table (§4.5.1).
    section.extend_from_slice(&[0, 0]);
    put_status(&mut section, status);
    for (name, value) in fields {
        put_field(&mut section, name.as_str(), value.as_bytes());
    }
    section
}

fn put_status(section: &mut Vec<u8>, status: StatusCode) {
    match status.as_u16() {
        200 => indexed(section, 25),
        304 => indexed(section, 26),
        404 => indexed(section, 27),
        503 => indexed(section, 28),
        204 => indexed(section, 64),
        206 => indexed(section, 65),
        400 => indexed(section, 67),
        403 => indexed(section, 68),
        421 => indexed(section, 69),
        425 => indexed(section, 70),
        500 => indexed(section, 71),
        _ => named(section, STATUS, status.as_str().as_bytes()),
    }
}

fn put_field(section: &mut Vec<u8>, name: &str, value: &[u8]) {
    let known = OF_RESPONSES.iter().map(|index| (*index, FIELDS[usize::from(*index)]));
    let mut known = known.filter(|(_, (known, _))| *known == name);
    let Some((first, _)) = known.clone().next() else {
        // §4.5.6: a literal with a literal name, not Huffman-coded.
        integer(section, 0b0010_0000, 3, name.len());
        section.extend_from_slice(name.as_bytes());
        return string(section, value);
    };
    match known.find(|(_, (_, known))| known.as_bytes() == value) {
        Some((index, _)) => indexed(section, index),
        None => named(section, first, value),
    }
}

/// An entry of the static table (§4.5.2).
fn indexed(section: &mut Vec<u8>, index: u8) {
    integer(section, 0b1100_0000, 6, index.into());
}

/// A value under the name of an entry of the static table (§4.5.4).
fn named(section: &mut Vec<u8>, index: u8, value: &[u8]) {
    integer(section, 0b0101_0000, 4, index.into());
    string(section, value);
}

fn string(section: &mut Vec<u8>, text: &[u8]) {
    integer(section, 0, 7, text.len());
    section.extend_from_slice(text);
}

/// A number in the last `bits` of a byte that begins with `flags`, and in more bytes where it does not fit (RFC 7541 §5.1).
fn integer(section: &mut Vec<u8>, flags: u8, bits: u32, number: usize) {
    let most = (1 << bits) - 1;
    if number < most {
        return section.push(flags | number as u8);
    }
    section.push(flags | most as u8);
    let mut rest = number - most;
    while rest >= 0x80 {
        section.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    section.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, header};

    use super::*;

    fn section(status: u16, fields: &[(HeaderName, &'static str)]) -> Vec<u8> {
        let fields: HeaderMap =
            fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        encode(StatusCode::from_u16(status).unwrap(), &fields)
    }

    #[test]
    fn what_the_table_has_is_named_by_number() {
        assert_eq!(section(200, &[]), [0, 0, 0xc0 | 25]);
        // Beyond 62 a second byte has the rest.
        assert_eq!(section(206, &[]), [0, 0, 0xff, 65 - 63]);
        assert_eq!(section(416, &[]), [0, 0, 0x5f, 24 - 15, 3, b'4', b'1', b'6']);
        assert_eq!(section(200, &[(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")])[3..], [0xc0 | 35]);
        assert_eq!(section(200, &[(header::ETAG, "\"1\"")])[3..], *b"\x57\x03\"1\"");
        assert_eq!(section(200, &[(HeaderName::from_static("x-y"), "z")])[3..], *b"\x23x-y\x01z");
        // RFC 7541 C.1.2: 1337 with five bits.
        let mut number = Vec::new();
        integer(&mut number, 0, 5, 1337);
        assert_eq!(number, [31, 154, 10]);
    }
}
