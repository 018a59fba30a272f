//! What HTTP/3 forbids (RFC 9114, RFC 9204), said byte by byte, and what the edge says to it.

use std::time::Duration;

use quinn::{Connection, ConnectionError, ReadToEndError, SendStream, VarInt};
use reelmill_media::keys::BlobKind;
use tokio::time::timeout;

use crate::world::{World, noise, path_of, quic};

// Streams (RFC 9114 §6.2, RFC 9204 §4.2).
const CONTROL: u64 = 0x00;
const PUSH: u64 = 0x01;
const QPACK_ENCODER: u64 = 0x02;
const QPACK_DECODER: u64 = 0x03;

// Frames (RFC 9114 §7.2).
const DATA: u64 = 0x00;
const HEADERS: u64 = 0x01;
const CANCEL_PUSH: u64 = 0x03;
const SETTINGS: u64 = 0x04;
const PUSH_PROMISE: u64 = 0x05;
const GOAWAY: u64 = 0x07;
const MAX_PUSH_ID: u64 = 0x0d;
/// Of a request, and of a push (RFC 9218 §7.2).
const PRIORITY_UPDATE: [u64; 2] = [0xf0700, 0xf0701];
/// Of a kind that is kept free so that everybody ignores it.
const GREASE: u64 = 0x21;
/// Those of HTTP/2 that have no sense here (RFC 9114 §11.2.1).
const OF_HTTP2: [u64; 4] = [0x02, 0x06, 0x08, 0x09];

// Errors (RFC 9114 §8.1, RFC 9204 §6).
const STREAM_CREATION_ERROR: u64 = 0x103;
const CLOSED_CRITICAL_STREAM: u64 = 0x104;
const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME_ERROR: u64 = 0x106;
const ID_ERROR: u64 = 0x108;
const SETTINGS_ERROR: u64 = 0x109;
const MISSING_SETTINGS: u64 = 0x10a;
const REQUEST_INCOMPLETE: u64 = 0x10d;
const MESSAGE_ERROR: u64 = 0x10e;
const DECOMPRESSION_FAILED: u64 = 0x200;
const ENCODER_STREAM_ERROR: u64 = 0x201;
const DECODER_STREAM_ERROR: u64 = 0x202;

/// What the edge says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// The connection is over.
    Closed(u64),
    /// The request's stream is.
    Reset(u64),
    /// An answer with this status; 0 for one that HPACK's table of common ones does not have.
    Answered(u16),
    Nothing,
}

/// A number of variable length (RFC 9000 §16).
fn number(value: u64) -> Vec<u8> {
    match value {
        0..0x40 => vec![value as u8],
        0x40..0x4000 => (value as u16 | 0x4000).to_be_bytes().to_vec(),
        _ => (value as u32 | 0x8000_0000).to_be_bytes().to_vec(),
    }
}

fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    [number(kind), number(payload.len() as u64), payload.to_vec()].concat()
}

fn settings(pairs: &[(u64, u64)]) -> Vec<u8> {
    frame(
        SETTINGS,
        &pairs.iter().flat_map(|(id, value)| [number(*id), number(*value)].concat()).collect::<Vec<_>>(),
    )
}

/// A prefixed integer (RFC 7541 §5.1).
fn prefixed(first: u8, bits: u32, value: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if value < most {
        return vec![first | value as u8];
    }
    let (mut bytes, mut rest) = (vec![first | most as u8], value - most);
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// Header sections with every field spelled out (RFC 9204 §4.5.6).
fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = vec![0, 0];
    for (name, value) in fields {
        section.extend(prefixed(0x20, 3, name.len()));
        section.extend(name.as_bytes());
        section.extend(prefixed(0, 7, value.len()));
        section.extend(value.as_bytes());
    }
    frame(HEADERS, &section)
}

/// The edge says in less what it says.
const PATIENCE: Duration = Duration::from_secs(2);

struct Talk {
    connection: Connection,
    /// Kept open: their end would be an error.
    opened: Vec<SendStream>,
    get: Vec<(&'static str, String)>,
}

impl Talk {
    async fn begin(world: &World, path: &str) -> Talk {
        let get = vec![
            (":method", "GET".to_owned()),
            (":scheme", "https".to_owned()),
            (":authority", "edge.test".to_owned()),
            (":path", path.to_owned()),
        ];
        Talk { connection: quic(world).await, opened: vec![], get }
    }

    /// A request's fields, without one and with others.
    fn fields(&self, without: &str, with: &[(&str, &str)]) -> Vec<u8> {
        let own = self.get.iter().map(|(name, value)| (*name, value.as_str()));
        headers(&own.filter(|(name, _)| *name != without).chain(with.iter().copied()).collect::<Vec<_>>())
    }

    /// Opens a stream of the client's with these bytes, unless the edge has closed the connection, which is looked at later.
    async fn open(&mut self, kind: u64, bytes: &[u8]) {
        if let Ok(mut stream) = self.connection.open_uni().await {
            let _ = stream.write_all(&[number(kind), bytes.to_vec()].concat()).await;
            self.opened.push(stream);
        }
    }

    /// What it says to these bytes on a request stream that ends after them.
    async fn ask(&self, bytes: &[u8]) -> Said {
        let Ok((mut send, mut receive)) = self.connection.open_bi().await else { return self.closed().await };
        let _ = send.write_all(bytes).await;
        let _ = send.finish();
        match timeout(PATIENCE, receive.read_to_end(1 << 20)).await {
            Ok(Ok(answer)) if answer.is_empty() => self.closed().await,
            Ok(Ok(answer)) => Said::Answered(status(&answer)),
            Ok(Err(ReadToEndError::Read(quinn::ReadError::Reset(code)))) => Said::Reset(code.into_inner()),
            Ok(Err(_)) => self.closed().await,
            Err(_) => Said::Nothing,
        }
    }

    /// How it ends the connection.
    async fn closed(&self) -> Said {
        match timeout(PATIENCE, self.connection.closed()).await {
            Ok(ConnectionError::ApplicationClosed(close)) => Said::Closed(close.error_code.into_inner()),
            Ok(_) | Err(_) => Said::Nothing,
        }
    }
}

/// The status in an answer's first frame, where it is one of the static table's (RFC 9204 appendix A).
fn status(answer: &[u8]) -> u16 {
    // Type, length of one or two bytes, two bytes of prefix, then the status, which comes first.
    let section = if answer[1] < 0x40 { &answer[2..] } else { &answer[3..] };
    match section[2..] {
        [0xd9, ..] => 200,
        [0xdb, ..] => 404,
        [0xff, 0x04, ..] => 400,
        _ => 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forbidden_gets_the_error_that_is_written() {
    let world = World::new();
    let hash = world.store.put_blob(BlobKind::Segment, noise(100, 1)).await.unwrap();
    let path = path_of(&hash, BlobKind::Segment);
    let mut wrong = Vec::new();
    let mut judge = |what: &str, said: Said, due: &[Said]| {
        if !due.contains(&said) {
            wrong.push(format!("{what}: {said:?}, not {due:?}"));
        }
    };
    let begin = async || Talk::begin(&world, &path).await;
    let proper = [Said::Answered(200)];

    // What is unknown is ignored (§9).
    let mut talk = begin().await;
    talk.open(CONTROL, &[settings(&[(0x21, 7), (0x06, 4096)]), frame(GREASE, b"x")].concat()).await;
    talk.open(0x21, b"anything").await;
    talk.open(QPACK_ENCODER, &[]).await;
    talk.open(QPACK_DECODER, &[]).await;
    judge(
        "unknown frames and streams",
        talk.ask(&[frame(GREASE, b"y"), talk.fields("", &[])].concat()).await,
        &proper,
    );

    // The control stream (§6.2.1, §7.2).
    let control: Vec<(&str, Vec<u8>, u64)> = vec![
        ("no SETTINGS first", frame(GOAWAY, &[0]), MISSING_SETTINGS),
        ("SETTINGS twice", [settings(&[]), settings(&[])].concat(), FRAME_UNEXPECTED),
        ("a setting twice", settings(&[(0x06, 1), (0x06, 1)]), SETTINGS_ERROR),
        ("DATA on the control stream", [settings(&[]), frame(DATA, b"x")].concat(), FRAME_UNEXPECTED),
        ("HEADERS on the control stream", [settings(&[]), headers(&[])].concat(), FRAME_UNEXPECTED),
        (
            "PUSH_PROMISE on the control stream",
            [settings(&[]), frame(PUSH_PROMISE, &[0, 0, 0])].concat(),
            FRAME_UNEXPECTED,
        ),
        ("GOAWAY that rises", [settings(&[]), frame(GOAWAY, &[1]), frame(GOAWAY, &[2])].concat(), ID_ERROR),
        (
            "MAX_PUSH_ID that falls",
            [settings(&[]), frame(MAX_PUSH_ID, &[2]), frame(MAX_PUSH_ID, &[1])].concat(),
            ID_ERROR,
        ),
        ("CANCEL_PUSH of nothing", [settings(&[]), frame(CANCEL_PUSH, &[0])].concat(), ID_ERROR),
        ("half a setting", frame(SETTINGS, &[0x06]), FRAME_ERROR),
        ("MAX_PUSH_ID and more", [settings(&[]), frame(MAX_PUSH_ID, &[1, 1])].concat(), FRAME_ERROR),
        ("an urgent push", [settings(&[]), frame(PRIORITY_UPDATE[1], b"\0u=1")].concat(), ID_ERROR),
        (
            "an urgent stream of ours",
            [settings(&[]), frame(PRIORITY_UPDATE[0], b"\x03u=1")].concat(),
            ID_ERROR,
        ),
        ("a request far off", [settings(&[]), frame(PRIORITY_UPDATE[0], b"\x50\0u=1")].concat(), ID_ERROR),
    ];
    for (what, bytes, code) in control {
        let mut talk = begin().await;
        talk.open(CONTROL, &bytes).await;
        judge(what, talk.closed().await, &[Said::Closed(code)]);
    }
    for id in [0x00, 0x02, 0x03, 0x04, 0x05] {
        let mut talk = begin().await;
        talk.open(CONTROL, &settings(&[(id, 1)])).await;
        judge(&format!("HTTP/2's setting {id}"), talk.closed().await, &[Said::Closed(SETTINGS_ERROR)]);
    }
    for kind in OF_HTTP2 {
        let mut talk = begin().await;
        talk.open(CONTROL, &[settings(&[]), frame(kind, &[0; 4])].concat()).await;
        judge(
            &format!("HTTP/2's frame {kind} on the control stream"),
            talk.closed().await,
            &[Said::Closed(FRAME_UNEXPECTED)],
        );
        let talk = begin().await;
        // It has its answer by then, perhaps.
        talk.ask(&[talk.fields("", &[]), frame(kind, &[0; 4])].concat()).await;
        judge(
            &format!("HTTP/2's frame {kind} in a request"),
            talk.closed().await,
            &[Said::Closed(FRAME_UNEXPECTED)],
        );
    }

    // Streams of the client's (§6.2).
    let mut talk = begin().await;
    talk.open(CONTROL, &settings(&[])).await;
    let _ = talk.opened[0].finish();
    judge("the control stream ends", talk.closed().await, &[Said::Closed(CLOSED_CRITICAL_STREAM)]);
    for (what, kind) in [("control", CONTROL), ("encoder", QPACK_ENCODER), ("decoder", QPACK_DECODER)] {
        let mut talk = begin().await;
        talk.open(kind, &if kind == CONTROL { settings(&[]) } else { vec![] }).await;
        // By then it knows what kind of stream that is; before, its end would mean nothing.
        judge("a request", talk.ask(&talk.fields("", &[])).await, &proper);
        let _ = talk.opened[0].reset(VarInt::from_u32(0));
        let closed = [Said::Closed(CLOSED_CRITICAL_STREAM)];
        judge(&format!("the {what} stream is reset"), talk.closed().await, &closed);
    }
    let mut talk = begin().await;
    talk.open(PUSH, &[0]).await;
    judge("a push by a client", talk.closed().await, &[Said::Closed(STREAM_CREATION_ERROR)]);
    for (what, kind) in [("control", CONTROL), ("encoder", QPACK_ENCODER), ("decoder", QPACK_DECODER)] {
        let mut talk = begin().await;
        talk.open(CONTROL, &settings(&[])).await;
        let first: &[u8] = if kind == CONTROL { &settings(&[]) } else { &[] };
        talk.open(kind, first).await;
        talk.open(kind, first).await;
        judge(
            &format!("a second {what} stream"),
            talk.closed().await,
            &[Said::Closed(STREAM_CREATION_ERROR)],
        );
    }

    // QPACK without a dynamic table (RFC 9204 §3.2.3, §4).
    let talk = begin().await;
    let said = talk.ask(&frame(HEADERS, &[0x02, 0x00, 0x80])).await;
    judge("a field of the dynamic table", said, &[Said::Closed(DECOMPRESSION_FAILED)]);
    let talk = begin().await;
    let said = talk.ask(&frame(HEADERS, &[0x00, 0x00, 0xff, 0xff, 0x01])).await;
    judge("a field beyond the static table", said, &[Said::Closed(DECOMPRESSION_FAILED)]);

    for (what, kind, bytes, code) in [
        ("a larger table than was allowed", QPACK_ENCODER, &[0x3f, 0xe1, 0x1f][..], ENCODER_STREAM_ERROR),
        ("an insertion", QPACK_ENCODER, &[0xc1, 0x01, b'x'], ENCODER_STREAM_ERROR),
        ("more told of than was inserted", QPACK_DECODER, &[0x01], DECODER_STREAM_ERROR),
        ("a section that needed nothing", QPACK_DECODER, &[0x80], DECODER_STREAM_ERROR),
    ] {
        let mut talk = begin().await;
        talk.open(kind, bytes).await;
        judge(what, talk.closed().await, &[Said::Closed(code)]);
    }
    let mut talk = begin().await;
    talk.open(QPACK_ENCODER, &[0x20]).await;
    talk.open(QPACK_DECODER, &[0x44]).await;
    judge("a table of no size, and a stream given up", talk.ask(&talk.fields("", &[])).await, &proper);

    // Frames of a request (§4.1, §7.1).
    let talk = begin().await;
    judge("DATA first", talk.ask(&frame(DATA, b"abc")).await, &[Said::Closed(FRAME_UNEXPECTED)]);
    for (what, kind, payload) in [
        ("SETTINGS", SETTINGS, &[][..]),
        ("GOAWAY", GOAWAY, &[0]),
        ("MAX_PUSH_ID", MAX_PUSH_ID, &[0]),
        ("CANCEL_PUSH", CANCEL_PUSH, &[0]),
        ("PUSH_PROMISE", PUSH_PROMISE, &[0, 0, 0]),
        ("PRIORITY_UPDATE", PRIORITY_UPDATE[0], b"\0u=1"),
    ] {
        let talk = begin().await;
        let said = talk.ask(&[frame(kind, payload), talk.fields("", &[])].concat()).await;
        judge(&format!("{what} in a request"), said, &[Said::Closed(FRAME_UNEXPECTED)]);
    }
    let talk = begin().await;
    let whole = talk.fields("", &[]);
    judge("half a frame", talk.ask(&whole[..whole.len() - 3]).await, &[Said::Closed(FRAME_ERROR)]);
    let talk = begin().await;
    judge("nothing", talk.ask(&[]).await, &[Said::Reset(REQUEST_INCOMPLETE)]);
    let (head, trailers) = (talk.fields("", &[("content-length", "4")]), headers(&[("a", "b")]));
    let (four, zero) = (frame(DATA, b"four"), frame(DATA, b""));
    let content = [&head[..], &four, &frame(GREASE, b"y"), &zero, &trailers, &frame(GREASE, b"y")].concat();
    judge("content and trailers", talk.ask(&content).await, &proper);
    for (what, after) in [("DATA", &four), ("HEADERS", &trailers)] {
        let talk = begin().await;
        let said = talk.ask(&[&head[..], &four, &trailers, after].concat()).await;
        judge(&format!("{what} after trailers"), said, &[Said::Closed(FRAME_UNEXPECTED)]);
    }

    // Malformed requests (§4.1.2): an error of the stream, or an answer that says so.
    let malformed = [Said::Reset(MESSAGE_ERROR), Said::Answered(400)];
    let talk = begin().await;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no :method", talk.fields(":method", &[])),
        ("no :scheme", talk.fields(":scheme", &[])),
        ("no :path", talk.fields(":path", &[])),
        (":path with a fragment", talk.fields(":path", &[(":path", &format!("{path}#x"))])),
        ("an empty :path", talk.fields(":path", &[(":path", "")])),
        ("no :authority and no host", talk.fields(":authority", &[])),
        ("host that differs", talk.fields("", &[("host", "else.test")])),
        ("an unknown pseudo-field", talk.fields("", &[(":other", "1")])),
        ("upper case", talk.fields("", &[("Accept", "*/*")])),
        ("a name that is no token", talk.fields("", &[("a b", "1")])),
        ("a line break in a value", talk.fields("", &[("accept", "a\r\nb")])),
        ("connection", talk.fields("", &[("connection", "close")])),
        ("transfer-encoding", talk.fields("", &[("transfer-encoding", "chunked")])),
        ("te other than trailers", talk.fields("", &[("te", "gzip")])),
        ("content-length that is no number", talk.fields("", &[("content-length", "x")])),
        ("content-length with a sign", talk.fields("", &[("content-length", "+0")])),
        ("two of content-length", talk.fields("", &[("content-length", "0"), ("content-length", "1")])),
        ("less than content-length", [talk.fields("", &[("content-length", "5")]), four.clone()].concat()),
        ("more than content-length", [talk.fields("", &[("content-length", "3")]), four.clone()].concat()),
        (":path twice", talk.fields("", &[(":path", "/nothing")])),
        (":status", talk.fields("", &[(":status", "200")])),
        (":path after others", talk.fields(":path", &[("accept", "*/*"), (":path", &path)])),
    ];
    for (what, bytes) in cases {
        let talk = begin().await;
        judge(what, talk.ask(&bytes).await, &malformed);
    }
    let large = "x".repeat(20_000);
    let talk = begin().await;
    judge(
        "a large header section",
        talk.ask(&talk.fields("", &[("cookie", &large)])).await,
        &[Said::Answered(0)],
    );

    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    // Whatever others said, it still answers.
    assert_eq!(begin().await.ask(&begin().await.fields("", &[])).await, Said::Answered(200));
}

/// RFC 9110 §10.1.1
#[tokio::test(flavor = "multi_thread")]
async fn who_expects_to_be_told_before_it_sends_content_is_answered() {
    let world = World::new();
    let hash = world.store.put_blob(BlobKind::Segment, noise(100, 1)).await.unwrap();
    let talk = Talk::begin(&world, &path_of(&hash, BlobKind::Segment)).await;
    let (mut send, mut receive) = talk.connection.open_bi().await.unwrap();
    let head = talk.fields("", &[("content-length", "4"), ("expect", "100-continue")]);
    send.write_all(&head).await.unwrap();
    let answer = timeout(PATIENCE, receive.read_to_end(1 << 20)).await.unwrap().unwrap();
    assert_eq!(status(&answer), 200);
}
