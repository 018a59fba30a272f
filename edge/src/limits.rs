//! Every bound of the edge, with its unit and its reason.

use std::time::Duration;

use crate::clients::ClientLimits;

/// Largest header section taken from a viewer. Signed URLs and CMCD query strings are long; nothing honest is longer.
pub(crate) const HEADER_SECTION_BYTES: u32 = 16 * 1024;

/// Most header fields taken from a viewer over HTTP/1.1.
pub(crate) const HEADER_FIELDS: usize = 100;

/// Longest path of a request. Ours are under 100 bytes; query strings do not count.
pub(crate) const PATH_BYTES: usize = 1024;

/// Ranges taken in one request; who asks for more gets the whole.
pub(crate) const RANGES: usize = 16;

/// What it costs to begin a part of several, in bytes, at least; ranges closer together are sent as one.
pub(crate) const PART_BYTES: u64 = 128;

/// Most bytes read from one HTTP/3 request stream. Above the header limit, so that a header section a little too long
/// is still answered with 431, and far below what could hurt: viewers have nothing to upload here.
pub(crate) const H3_REQUEST_STREAM_BYTES: u64 = 64 * 1024;

/// Most bytes read from one unidirectional HTTP/3 stream (control, QPACK) over a connection's life.
pub(crate) const H3_CONTROL_STREAM_BYTES: u64 = 1024 * 1024;

/// Requests at once on one connection (RFC 9114 §6.1 asks for 100 or more).
pub(crate) const STREAMS_PER_CONNECTION: u32 = 100;

/// Unidirectional streams at once on one QUIC connection: three of HTTP/3's own and room for reserved types. quinn keeps a
/// table of all that may be open, which has 112 places until it doubles.
pub(crate) const UNI_STREAMS_PER_CONNECTION: u32 = 8;

/// QUIC receive window of one stream and of one connection, in bytes: requests are small.
pub(crate) const QUIC_STREAM_RECEIVE_WINDOW: u32 = 32 * 1024;
/// See [`QUIC_STREAM_RECEIVE_WINDOW`].
pub(crate) const QUIC_RECEIVE_WINDOW: u32 = 128 * 1024;

/// Unacknowledged bytes kept for one QUIC connection: 160 Mb/s at 100 ms round trip.
pub(crate) const QUIC_SEND_WINDOW: u64 = 2 * 1024 * 1024;

/// Bytes that HTTP/2 keeps of one answer, beside those in the kernel: two pieces.
pub(crate) const H2_SEND_BUFFER_BYTES: usize = 2 * CHUNK_BYTES;

/// Handshakes that may wait to be looked at, at one endpoint.
pub(crate) const QUIC_INCOMING: usize = 1024;
/// Bytes buffered for one connection not yet accepted, and for all of them on one port.
pub(crate) const QUIC_INCOMING_BYTES: u64 = 64 * 1024;
/// See [`QUIC_INCOMING_BYTES`].
pub(crate) const QUIC_INCOMING_BYTES_TOTAL: u64 = 16 * 1024 * 1024;

/// Handshakes in progress above which a QUIC client has to prove its address first (RFC 9000 §8.1.2).
pub(crate) const HANDSHAKES_BEFORE_RETRY: usize = 128;

/// Traces of connections in the folder for them, and the bytes of one: a few minutes of a viewer's packets.
pub(crate) const TRACES: usize = 100;
/// See [`TRACES`].
pub(crate) const TRACE_BYTES: usize = 16 * 1024 * 1024;

/// Size asked for the UDP socket's buffers: the usual 208 KiB loses packets at some hundred connections.
pub(crate) const UDP_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// Most QUIC endpoints of one port: each is a socket of its own, with buffers of several MiB.
pub(crate) const ENDPOINTS: u8 = 64;

/// Datagrams that wait for an endpoint at whose socket they did not come in; viewers who move say little.
pub(crate) const INBOX_DATAGRAMS: usize = 1024;

/// Connections waiting in the kernel for the TCP listener.
pub(crate) const TCP_BACKLOG: i32 = 1024;

/// TLS sessions over QUIC that may be taken up again, at about 400 bytes each; a handshake makes two.
pub(crate) const SESSIONS_KEPT: usize = 32 * 1024;

/// A TLS or QUIC handshake takes less.
pub(crate) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// A request's header section arrives in less; over HTTP/1.1 also the time a kept-alive connection may rest.
pub(crate) const HEADER_DEADLINE: Duration = Duration::from_secs(30);

/// A connection without any request rests this long. Paused players come back on the same one.
pub(crate) const IDLE: Duration = Duration::from_secs(90);

/// A viewer takes at least [`CHUNK_BYTES`] in this time, about 1 KB/s, or is let go.
pub(crate) const STALL: Duration = Duration::from_secs(60);

/// How long a client address is remembered without a word from it, and how many are.
pub(crate) const CLIENTS_FORGOTTEN: Duration = Duration::from_secs(120);
/// See [`CLIENTS_FORGOTTEN`].
pub(crate) const CLIENTS_REMEMBERED: u64 = 100_000;

/// How long a client address is not answered that goes on asking for more than its share although it is told so.
pub(crate) const SHUT_OUT_FOR: Duration = Duration::from_secs(60);

/// The piece in which a body is handed to a connection.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// A blob arrives from the origin in less, tries and all.
pub(crate) const FILL_DEADLINE: Duration = Duration::from_secs(60);

/// The origin begins to answer in less, whatever its client tries again meanwhile; nobody waits longer for a place among
/// [`FILLS_AT_ONCE`] either. A viewer asks again, and knows other edges.
pub(crate) const ORIGIN_HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// How long an origin that did not answer is asked only after everybody else.
pub(crate) const ORIGIN_DOWN_FOR: Duration = Duration::from_secs(5);

/// The origin goes on with what it has begun in less.
pub(crate) const ORIGIN_STALL: Duration = Duration::from_secs(10);

/// Tries of one fill, the first included: a byte flipped on the way is right the second time.
pub(crate) const FILL_ATTEMPTS: u32 = 2;

/// How often a fill without room looks again and takes from slow readers, and how long it waits for room in all.
pub(crate) const ROOM_LOOK: Duration = Duration::from_millis(20);
/// See [`ROOM_LOOK`].
pub(crate) const ROOM_DEADLINE: Duration = Duration::from_secs(5);

/// Blobs fetched from the origin at once.
pub(crate) const FILLS_AT_ONCE: usize = 64;

/// How long "the origin has no such blob" is remembered, and for how many blobs.
pub(crate) const ABSENT_FOR: Duration = Duration::from_millis(500);
/// See [`ABSENT_FOR`].
pub(crate) const ABSENT_ENTRIES: u64 = 10_000;

/// Blobs read from disk at once; each takes a thread.
pub(crate) const DISK_READS_AT_ONCE: usize = 32;

/// Blobs that wait in memory to be written to disk; what comes when all places are taken is not written.
pub(crate) const DISK_WRITES_WAITING: usize = 64;

/// How many blobs that had to make room or were taken down are remembered, to tell why they are missed.
pub(crate) const LEFT_ENTRIES: u64 = 50_000;

/// How often a viewer joins a fill that was begun for a peer and fails on the peer's terms.
pub(crate) const JOINS: u32 = 3;

/// Other edges in one PoP.
pub(crate) const MEMBERS: usize = 256;

/// Peers that are asked as owners before the shield and the origin are.
pub(crate) const OWNERS_ASKED: usize = 2;

/// Peers that are asked, before the origin is, whether they hold a blob, and how long that may take: a round trip.
pub(crate) const HOLDERS_ASKED: usize = 8;
/// See [`HOLDERS_ASKED`].
pub(crate) const HOLDERS_PATIENCE: Duration = Duration::from_millis(250);

/// Fills taken on for peers at once; the next in rank takes what comes on top. Fewer than [`FILLS_AT_ONCE`], so that an
/// edge's own viewers always have some.
pub(crate) const OWNED_FILLS: usize = 48;

/// How long, and for how many blobs, an edge that had its hands full leaves them to the next in rank.
pub(crate) const PASSED_ON_FOR: Duration = Duration::from_secs(30);
/// See [`PASSED_ON_FOR`].
pub(crate) const PASSED_ON_ENTRIES: u64 = 10_000;

/// Fills that wait for peers at once. Apart from [`FILLS_AT_ONCE`], so that two edges cannot starve each other.
pub(crate) const PEER_FILLS_AT_ONCE: usize = 256;

/// Connections of peers at once.
pub(crate) const PEER_CONNECTIONS: usize = 1024;

/// What one peer may take: far more than a viewer, for it asks on behalf of many, but not everything.
pub(crate) const PEER_LIMITS: ClientLimits = ClientLimits {
    connections: 64,
    requests_per_second: 50_000,
    handshakes_per_second: 100,
    resets_per_second: 5_000,
    least_bytes_per_second: 2048,
    slow_for: Duration::from_secs(60),
    loopback_too: false,
};

/// A connection to a peer is there in less.
pub(crate) const PEER_CONNECT_DEADLINE: Duration = Duration::from_secs(1);

/// How long a peer that could not be reached is left alone.
pub(crate) const PEER_DOWN_FOR: Duration = Duration::from_secs(2);

/// A sign of life goes over a connection between peers this often, …
pub(crate) const PEER_KEEP_ALIVE: Duration = Duration::from_millis(700);
/// … and one that is silent for this long is dead, with all that waits on it.
pub(crate) const PEER_SILENCE: Duration = Duration::from_secs(3);

/// A peer answers in less: a little more than it gives the origin for its tries.
pub(crate) const PEER_HEAD_DEADLINE: Duration = Duration::from_secs(11);

/// A peer goes on with what it has begun in less.
pub(crate) const PEER_STALL: Duration = ORIGIN_STALL;

/// QUIC receive window of one answer of a peer, in bytes: a segment.
pub(crate) const PEER_STREAM_RECEIVE_WINDOW: u32 = 4 * 1024 * 1024;
/// The same of all answers on one connection.
pub(crate) const PEER_RECEIVE_WINDOW: u32 = 64 * 1024 * 1024;

/// A viewer who can be served an older text waits so long for a newer one.
pub(crate) const PLAYLIST_PATIENCE: Duration = Duration::from_secs(1);

/// The same when the last try was in vain: an origin that is back answers in less.
pub(crate) const PLAYLIST_PATIENCE_IN_VAIN: Duration = Duration::from_millis(200);

/// A playlist arrives from the origin in less.
pub(crate) const PLAYLIST_DEADLINE: Duration = Duration::from_secs(5);

/// A growing playlist (or an answer that there is none) is asked for again after this.
pub(crate) const GROWING_FRESH: Duration = Duration::from_millis(200);

/// The same while word of new playlists comes through and came for this very asset.
pub(crate) const ANNOUNCED_FRESH: Duration = Duration::from_secs(2);

/// How long word of an asset's playlists counts, and for how many assets: longer than any segment.
pub(crate) const ANNOUNCED_FOR: Duration = Duration::from_secs(60);
/// See [`ANNOUNCED_FOR`].
pub(crate) const ANNOUNCED_ASSETS: u64 = 10_000;

/// A request is held no longer, whatever it prefers: some proxies take a server for dead after this, and it is well below
/// [`STALL`].
pub(crate) const HELD_FOR: Duration = Duration::from_secs(30);

/// A closed playlist changes only when an asset is taken down or gets another rendition.
pub(crate) const CLOSED_FRESH: Duration = Duration::from_secs(10);

/// How old a playlist may be served when the origin is away.
pub(crate) const STALE_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest playlist: ten hours in one-second segments with room to spare.
pub(crate) const PLAYLIST_BYTES: u64 = 16 * 1024 * 1024;

/// Memory for playlists.
pub(crate) const PLAYLIST_CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// How long a request waits for word of policies and of assets' owners.
pub(crate) const POLICIES_DEADLINE: Duration = Duration::from_secs(2);

/// Tokens that are known to be proven.
pub(crate) const TOKENS_REMEMBERED: u64 = 20_000;

/// Assets of which is remembered whether they are a tenant's, and how long that they are not.
pub(crate) const OWNERS_REMEMBERED: u64 = 100_000;
/// See [`OWNERS_REMEMBERED`].
pub(crate) const NOT_OWNED_FOR: Duration = Duration::from_secs(5);

/// How long an edge that begins waits for word of policies before it goes by what it heard when it last ran.
pub(crate) const SAVED_POLICIES_AFTER: Duration = Duration::from_secs(1);

/// How long after a change of policies the last word is saved.
pub(crate) const POLICIES_SAVED_AFTER: Duration = Duration::from_millis(500);

/// Texts that are known to be read for the blobs that they name.
pub(crate) const NAMING_TEXTS: u64 = 200_000;

/// Assets that wait to be read for that, and how many are read at once, and the pause between rounds.
pub(crate) const NAMING_WAITING: usize = 1024;
/// See [`NAMING_WAITING`].
pub(crate) const NAMING_AT_ONCE: usize = 8;
/// See [`NAMING_WAITING`].
pub(crate) const NAMING_SETTLES: Duration = Duration::from_millis(500);

/// Sessions that are told apart, and how long one lasts without a word.
pub(crate) const SESSIONS: u64 = 100_000;
/// See [`SESSIONS`].
pub(crate) const SESSION_IDLE: Duration = Duration::from_secs(60);

/// Segments brought in ahead for a viewer who begins or has jumped, and for one who watches on.
pub(crate) const PREFETCH_AT_START: usize = 2;
/// See [`PREFETCH_AT_START`].
pub(crate) const PREFETCH_AHEAD: usize = 4;

/// Bytes ahead of one viewer above which no more segments are begun.
pub(crate) const PREFETCH_BYTES: u64 = 32 * 1024 * 1024;

/// Fills ahead of all viewers at once. Far fewer than [`FILLS_AT_ONCE`], so that those who wait come first.
pub(crate) const PREFETCH_AT_ONCE: usize = 16;

/// Viewers and renditions that are followed, and how long without a request.
pub(crate) const PREFETCH_WINDOWS: u64 = 50_000;
/// See [`PREFETCH_WINDOWS`].
pub(crate) const PREFETCH_IDLE: Duration = Duration::from_secs(60);

/// Segments whose places in media playlists are known, at about 200 bytes each.
pub(crate) const PREFETCH_PLACES: u64 = 200_000;

/// Lines of the access log that wait to be written, how many are written at once, and the most characters of one field.
pub(crate) const ACCESS_LOG_WAITING: usize = 8192;
/// See [`ACCESS_LOG_WAITING`].
pub(crate) const ACCESS_LOG_BATCH: usize = 512;
/// See [`ACCESS_LOG_WAITING`].
pub(crate) const ACCESS_LOG_FIELD: usize = 2048;

/// A newer process is ready to take over in less: it opens its store, its caches and its connections.
pub(crate) const SUCCESSION_DEADLINE: Duration = Duration::from_secs(60);

/// How long a newer process waits for word of policies and takedowns before it takes over without.
pub(crate) const SUCCESSION_SETTLES: Duration = Duration::from_secs(5);

/// Most that one process hands on to the next: a few sockets, and relays to all that have not ended yet.
pub(crate) const LETTER_ITEMS: usize = 128;
/// See [`LETTER_ITEMS`].
pub(crate) const LETTER_BYTES: usize = 16 * 1024;

/// Clients' own connection IDs, of 20 bytes at most, that are handed on as begun with: with each byte as up to four characters
/// they fit into one message of a relay.
pub(crate) const BEGUN_LATELY: usize = 512;
/// What may wait in a relay to an older process, in bytes, and the largest message in it: a datagram and where it is from.
pub(crate) const RELAY_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// See [`RELAY_BUFFER_BYTES`].
pub(crate) const RELAYED_BYTES: usize = 64 * 1024;
