//! The field section of a response as QPACK has it (RFC 9204), by its static table alone.
//!
//! Strings stand as they are: to Huffman-code and to look them up one by one took the HTTP/3 layer more of a processor than
//! the seventy bytes that it saved, which fit into the packet anyway.

use http::{HeaderMap, StatusCode};

/// What appendix A of RFC 9204 has of responses' fields: index, name and value.
const STATIC: [(u8, &str, &str); 34] = [
    (2, "age", "0"),
    (4, "content-length", "0"),
    (6, "date", ""),
    (7, "etag", ""),
    (12, "location", ""),
    (32, "accept-ranges", "bytes"),
    (33, "access-control-allow-headers", "cache-control"),
    (35, "access-control-allow-origin", "*"),
    (36, "cache-control", "max-age=0"),
    (39, "cache-control", "no-cache"),
    (40, "cache-control", "no-store"),
    (44, "content-type", "application/dns-message"),
    (45, "content-type", "application/javascript"),
    (46, "content-type", "application/json"),
    (49, "content-type", "image/jpeg"),
    (50, "content-type", "image/png"),
    (51, "content-type", "text/css"),
    (52, "content-type", "text/html; charset=utf-8"),
    (53, "content-type", "text/plain"),
    (54, "content-type", "text/plain;charset=utf-8"),
    (59, "vary", "accept-encoding"),
    (60, "vary", "origin"),
    (61, "x-content-type-options", "nosniff"),
    (75, "access-control-allow-headers", "*"),
    (76, "access-control-allow-methods", "get"),
    (77, "access-control-allow-methods", "get, post, options"),
    (78, "access-control-allow-methods", "options"),
    (79, "access-control-expose-headers", "content-length"),
    (83, "alt-svc", "clear"),
    (85, "content-security-policy", "script-src 'none'; object-src 'none'; base-uri 'none'"),
    (92, "server", ""),
    (93, "timing-allow-origin", "*"),
    (97, "x-frame-options", "deny"),
    (98, "x-frame-options", "sameorigin"),
];

/// Any of the table's entries named `:status`.
const STATUS: u8 = 24;

/// Encodes status and fields.
pub(super) fn encode(status: StatusCode, fields: &HeaderMap) -> Vec<u8> {
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
    let mut known = STATIC.iter().filter(|(_, known, _)| *known == name);
    let Some((first, ..)) = known.clone().next() else {
        // §4.5.6: a literal with a literal name, not Huffman-coded.
        integer(section, 0b0010_0000, 3, name.len());
        section.extend_from_slice(name.as_bytes());
        return string(section, value);
    };
    match known.find(|(.., known)| known.as_bytes() == value) {
        Some((index, ..)) => indexed(section, *index),
        None => named(section, *first, value),
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
