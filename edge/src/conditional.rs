//! Conditional requests (RFC 9110 §13) against strong entity tags. There are no modification dates here, so the fields
//! that compare dates do not apply (§13.1.3, §13.1.4).

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use reelmill_media::ids::BlobHash;

/// A strong entity tag: the content hash in quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityTag(BlobHash);

impl EntityTag {
    /// The tag of content with this hash.
    pub fn of(hash: BlobHash) -> Self {
        Self(hash)
    }

    /// The content hash.
    pub fn hash(&self) -> BlobHash {
        self.0
    }

    /// As a field value.
    pub fn header_value(&self) -> HeaderValue {
        // Quotes and hexadecimal digits are always a valid field value.
        HeaderValue::from_str(&self.to_string()).unwrap_or(HeaderValue::from_static("\"\""))
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// What the conditions of a request ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Answer as if there were none.
    Proceed,
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client wants to go on with.
    PreconditionFailed,
}

/// Evaluates `If-Match`, then `If-None-Match` (RFC 9110 §13.2.2).
pub fn judge(headers: &HeaderMap, tag: &EntityTag) -> Verdict {
    if headers.contains_key(header::IF_MATCH) && !lists(headers, header::IF_MATCH, tag, Comparison::Strong) {
        return Verdict::PreconditionFailed;
    }
    if lists(headers, header::IF_NONE_MATCH, tag, Comparison::Weak) {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Whether a `Range` field counts: without `If-Range`, or when that names this very content (RFC 9110 §13.1.5).
pub fn range_applies(headers: &HeaderMap, tag: &EntityTag) -> bool {
    match headers.get(header::IF_RANGE) {
        None => true,
        Some(value) => value.as_bytes() == tag.to_string().as_bytes(),
    }
}

/// RFC 9110 §8.8.3.2
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

fn lists(headers: &HeaderMap, name: HeaderName, tag: &EntityTag, comparison: Comparison) -> bool {
    let ours = tag.to_string();
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|text| {
        // Our tags hold neither commas nor spaces, so cutting at commas can only miss tags that are not ours.
        text.split(',').map(str::trim).any(|theirs| {
            let opaque = match comparison {
                Comparison::Strong => theirs,
                Comparison::Weak => theirs.strip_prefix("W/").unwrap_or(theirs),
            };
            theirs == "*" || opaque == ours
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn conditions_follow_rfc_9110_section_13() {
        let tag = EntityTag::of(BlobHash::of(b"x"));
        let (ours, weak, other) = (tag.to_string(), format!("W/{tag}"), "\"other\"");
        let list = format!("{other}, {weak}");
        for (fields, expected) in [
            (headers(&[]), Verdict::Proceed),
            (headers(&[(header::IF_NONE_MATCH, &ours)]), Verdict::NotModified),
            (headers(&[(header::IF_NONE_MATCH, &weak)]), Verdict::NotModified),
            (headers(&[(header::IF_NONE_MATCH, "*")]), Verdict::NotModified),
            (headers(&[(header::IF_NONE_MATCH, &list)]), Verdict::NotModified),
            (headers(&[(header::IF_NONE_MATCH, other)]), Verdict::Proceed),
            (headers(&[(header::IF_MATCH, &ours)]), Verdict::Proceed),
            (headers(&[(header::IF_MATCH, "*")]), Verdict::Proceed),
            (headers(&[(header::IF_MATCH, &weak)]), Verdict::PreconditionFailed),
            (
                headers(&[(header::IF_MATCH, other), (header::IF_NONE_MATCH, &ours)]),
                Verdict::PreconditionFailed,
            ),
            (headers(&[(header::IF_MODIFIED_SINCE, "Sat, 01 Jan 2050 00:00:00 GMT")]), Verdict::Proceed),
        ] {
            assert_eq!(judge(&fields, &tag), expected, "{fields:?}");
        }
    }

    #[test]
    fn if_range_wants_the_strong_tag() {
        let tag = EntityTag::of(BlobHash::of(b"x"));
        let field = |value: &str| headers(&[(header::IF_RANGE, value)]);
        assert!(range_applies(&headers(&[]), &tag));
        assert!(range_applies(&field(&tag.to_string()), &tag));
        assert!(!range_applies(&field(&format!("W/{tag}")), &tag));
        assert!(!range_applies(&field("Sat, 01 Jan 2050 00:00:00 GMT"), &tag));
    }
}
