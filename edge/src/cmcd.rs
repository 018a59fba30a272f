//! What players say of themselves: Common Media Client Data, CTA-5004 (version 1) and what of version 2 has the same form.
//! Pure: request in, facts out.
//!
//! It comes as the query argument `CMCD` or in four header fields, and never names anything: the cache does not see it.

use http::HeaderMap;
use url::form_urlencoded;

/// The header fields (CTA-5004 §2.1).
const FIELDS: [&str; 4] = ["cmcd-object", "cmcd-request", "cmcd-session", "cmcd-status"];

/// Longest text that is looked at, in bytes. Honest ones are a few hundred.
const TEXT_BYTES: usize = 8 * 1024;

/// Longest session id (CTA-5004 §2.2).
const SESSION_BYTES: usize = 64;

/// Most pairs that are looked at; there are some fifty keys.
const PAIRS: usize = 128;

/// One request's report. What is missing was not said, or not understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// `sid`: the playback session.
    pub session: Option<String>,
    /// `br`: encoded bit rate of what is asked for, in kb/s; of several (version 2) the sum.
    pub bitrate_kbps: Option<u64>,
    /// `bl`: media in the buffer, in milliseconds; of several (version 2) the least.
    pub buffer_ms: Option<u64>,
    /// `d`: duration of what is asked for, in milliseconds.
    pub duration_ms: Option<u64>,
    /// `mtp`: throughput as the player measures it, in kb/s; of several (version 2) the least.
    pub throughput_kbps: Option<u64>,
    /// `msd` (version 2): from the wish to play to the first picture, in milliseconds.
    pub start_delay_ms: Option<u64>,
    /// `bs`: the buffer ran empty since the request before.
    pub starved: bool,
    /// `su`: needed urgently, to start or to go on.
    pub startup: bool,
    /// `ot`: what is asked for.
    pub object: Option<ObjectType>,
    /// `nor`: what will be asked for next, relative to this.
    pub next: Option<String>,
}

/// What kind of thing a player asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectType {
    /// `m`
    Manifest,
    /// `a`
    Audio,
    /// `v`
    Video,
    /// `av`
    Muxed,
    /// `i`
    Init,
    /// `c`, `tt`
    Caption,
    /// `k`, `o`, and what later versions add.
    Other,
}

impl ObjectType {
    fn read(token: &str) -> Self {
        match token {
            "m" => Self::Manifest,
            "a" => Self::Audio,
            "v" => Self::Video,
            "av" => Self::Muxed,
            "i" => Self::Init,
            "c" | "tt" => Self::Caption,
            _ => Self::Other,
        }
    }

    /// As in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Muxed => "muxed",
            Self::Init => "init",
            Self::Caption => "caption",
            Self::Other => "other",
        }
    }
}

/// Reads what a request says; `None` when it says nothing, or nothing readable.
pub fn read(headers: &HeaderMap, query: Option<&str>) -> Option<Report> {
    let mut report = Report::default();
    let mut understood = false;
    // Players use one way or the other; who uses both means the query.
    for field in FIELDS {
        for value in headers.get_all(field).iter().filter_map(|value| value.to_str().ok()) {
            understood |= report.add(value);
        }
    }
    let arguments = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    if let Some((_, value)) = arguments.take(PAIRS).find(|(name, _)| name == "CMCD") {
        understood |= report.add(&value);
    }
    understood.then_some(report)
}

impl Report {
    fn add(&mut self, text: &str) -> bool {
        if text.len() > TEXT_BYTES {
            return false;
        }
        let mut understood = false;
        for pair in split(text, ',').take(PAIRS) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            understood |= self.set(key.trim(), value.trim());
        }
        understood
    }

    /// Takes one pair. A key alone is true (RFC 8941 §3.2).
    fn set(&mut self, key: &str, value: &str) -> bool {
        let flag = matches!(value, "" | "?1" | "true");
        match key {
            "sid" => self.session = string(value).filter(|id| !id.is_empty() && id.len() <= SESSION_BYTES),
            "br" => self.bitrate_kbps = numbers(value).reduce(u64::saturating_add),
            "bl" => self.buffer_ms = numbers(value).min(),
            "d" => self.duration_ms = numbers(value).next(),
            "mtp" => self.throughput_kbps = numbers(value).min(),
            "msd" => self.start_delay_ms = numbers(value).next(),
            "bs" => self.starved = flag,
            "su" => self.startup = flag,
            "ot" => self.object = Some(ObjectType::read(value)),
            "nor" => self.next = items(value).next().and_then(string),
            // Keys that nothing here needs.
            _ => return false,
        }
        true
    }
}

/// Splits at a mark that is not inside a quoted string or a list.
fn split(text: &str, mark: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped, mut depth) = (false, false, 0u32);
    text.split(move |c: char| {
        if quoted {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => quoted = false,
                _ => {}
            }
            return false;
        }
        match c {
            '"' => quoted = true,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == mark && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

/// One item, or those of an inner list (version 2), without their parameters.
fn items(value: &str) -> impl Iterator<Item = &str> {
    let list = value.strip_prefix('(').and_then(|list| list.rsplit_once(')')).map(|(list, _)| list);
    split(list.unwrap_or(value), ' ').filter_map(|item| split(item, ';').next())
}

fn numbers(value: &str) -> impl Iterator<Item = u64> {
    items(value).filter_map(|item| item.parse().ok())
}

/// A quoted string (RFC 8941 §3.3.3); some players send it bare.
fn string(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else { return Some(value.to_owned()) };
    let inner = inner.strip_suffix('"')?;
    let mut text = String::with_capacity(inner.len());
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        text.push(if letter == '\\' { letters.next()? } else { letter });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn query(text: &str) -> Option<Report> {
        let query: String =
            form_urlencoded::Serializer::new(String::new()).append_pair("CMCD", text).finish();
        read(&HeaderMap::new(), Some(&format!("a=b&{query}&c")))
    }

    /// The example of CTA-5004 §3.
    #[test]
    fn the_example_of_the_standard_is_read_from_the_query() {
        let text = "bl=21300,br=3200,bs,cid=\"faec5fc2-ac30-11ea-bb37-0242ac130002\",cmsd,d=4004,mtp=25400,\
                    nor=\"..%2F300kbps%2Ftrack.m4v\",nrr=\"12323-48763\",ot=v,pr=1.08,rtp=12000,sf=d,\
                    sid=\"6e2fb550-c457-11e9-bb97-0800200c9a66\",st=v,su,tb=6000";
        let expected = Report {
            session: Some("6e2fb550-c457-11e9-bb97-0800200c9a66".into()),
            bitrate_kbps: Some(3200),
            buffer_ms: Some(21_300),
            duration_ms: Some(4004),
            throughput_kbps: Some(25_400),
            start_delay_ms: None,
            starved: true,
            startup: true,
            object: Some(ObjectType::Video),
            next: Some("..%2F300kbps%2Ftrack.m4v".into()),
        };
        assert_eq!(query(text), Some(expected));
    }

    #[test]
    fn the_four_fields_are_read_together() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("CMCD-Object", "br=1000,d=2000,ot=a,tb=6000"),
            ("CMCD-Request", "bl=1500,nor=\"a,b.m4s\",su"),
            ("CMCD-Session", "sid=\"x\\\"y\",v=1"),
            ("CMCD-Status", "bs"),
        ] {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.insert(name, HeaderValue::from_static(value));
        }
        let report = read(&headers, None).unwrap();
        assert_eq!((report.session.as_deref(), report.next.as_deref()), (Some("x\"y"), Some("a,b.m4s")));
        assert_eq!((report.bitrate_kbps, report.buffer_ms, report.starved), (Some(1000), Some(1500), true));
        assert_eq!(report.object, Some(ObjectType::Audio));
    }

    #[test]
    fn lists_of_version_2_are_read() {
        let report =
            query("v=2,br=(3000;v 128;a),bl=(4000;v 2500;a),nor=(\"../ab/c.m4s\" \"d\"),msd=900,bs=?0");
        let report = report.unwrap();
        assert_eq!((report.bitrate_kbps, report.buffer_ms), (Some(3128), Some(2500)));
        assert_eq!((report.next.as_deref(), report.start_delay_ms), (Some("../ab/c.m4s"), Some(900)));
        assert!(!report.starved);
    }

    #[test]
    fn what_says_nothing_is_no_report() {
        assert_eq!(read(&HeaderMap::new(), None), None);
        assert_eq!(read(&HeaderMap::new(), Some("cmcd=br%3D1")), None);
        assert_eq!(query("com.example-x=1"), None);
        assert_eq!(query(&format!("br=1,x={}", "y".repeat(TEXT_BYTES))), None);
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in ".{0,200}", near in "[a-z=,\"\\\\();? 0-9-]{0,80}", raw in ".{0,100}") {
            for text in [&text, &near] {
                if let Some(session) = query(text).and_then(|report| report.session) {
                    prop_assert!(session.len() <= SESSION_BYTES);
                }
                let mut headers = HeaderMap::new();
                if let Ok(value) = HeaderValue::from_str(text) {
                    headers.insert("cmcd-request", value);
                }
                let _ = read(&headers, Some(&raw));
            }
        }

        #[test]
        fn any_string_survives_quoting(text in "[ -~]{1,40}") {
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            let report = query(&format!("br=1,sid=\"{quoted}\",bl=2")).unwrap();
            prop_assert_eq!(report.session.as_deref(), Some(text.as_str()));
            prop_assert_eq!(report.buffer_ms, Some(2));
        }
    }
}
