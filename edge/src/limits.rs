//! Every bound of the edge, with its unit and its reason.

use std::time::Duration;

/// Largest header section taken from a viewer. Signed URLs and CMCD query strings are long; nothing honest is longer.
pub(crate) const HEADER_SECTION_BYTES: u32 = 16 * 1024;

/// Most header fields taken from a viewer over HTTP/1.1.
pub(crate) const HEADER_FIELDS: usize = 100;

/// Longest path of a request. Ours are under 100 bytes; query strings do not count.
pub(crate) const PATH_BYTES: usize = 1024;

/// Most bytes read from one HTTP/3 request stream. Above the header limit, so that a header section a little too long
/// is still answered with 431, and far below what could hurt: viewers have nothing to upload here.
pub(crate) const H3_REQUEST_STREAM_BYTES: u64 = 64 * 1024;

/// Most bytes read from one unidirectional HTTP/3 stream (control, QPACK) over a connection's life.
pub(crate) const H3_CONTROL_STREAM_BYTES: u64 = 1024 * 1024;

/// Requests at once on one connection (RFC 9114 §6.1 asks for 100 or more).
pub(crate) const STREAMS_PER_CONNECTION: u32 = 100;

/// Unidirectional streams at once on one QUIC connection: three of HTTP/3's own and room for reserved types.
pub(crate) const UNI_STREAMS_PER_CONNECTION: u32 = 16;

/// QUIC receive window of one stream and of one connection, in bytes: requests are small.
pub(crate) const QUIC_STREAM_RECEIVE_WINDOW: u32 = 32 * 1024;
/// See [`QUIC_STREAM_RECEIVE_WINDOW`].
pub(crate) const QUIC_RECEIVE_WINDOW: u32 = 512 * 1024;

/// Unacknowledged bytes kept for one QUIC connection: 160 Mb/s at 100 ms round trip.
pub(crate) const QUIC_SEND_WINDOW: u64 = 2 * 1024 * 1024;

/// Handshakes that may wait to be looked at.
pub(crate) const QUIC_INCOMING: usize = 1024;
/// Bytes buffered for one connection not yet accepted, and for all of them.
pub(crate) const QUIC_INCOMING_BYTES: u64 = 64 * 1024;
/// See [`QUIC_INCOMING_BYTES`].
pub(crate) const QUIC_INCOMING_BYTES_TOTAL: u64 = 16 * 1024 * 1024;

/// Handshakes in progress above which a QUIC client has to prove its address first (RFC 9000 §8.1.2).
pub(crate) const HANDSHAKES_BEFORE_RETRY: usize = 128;

/// Size asked for the UDP socket's buffers: the usual 208 KiB loses packets at some hundred connections.
pub(crate) const UDP_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// Connections waiting in the kernel for the TCP listener.
pub(crate) const TCP_BACKLOG: i32 = 1024;

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

/// The piece in which a body is handed to a connection.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// A blob arrives from the origin in less, tries and all.
pub(crate) const FILL_DEADLINE: Duration = Duration::from_secs(60);

/// The origin answers, and goes on with what it has begun, in less.
pub(crate) const ORIGIN_STALL: Duration = Duration::from_secs(10);

/// Tries of one fill, the first included: a byte flipped on the way is right the second time.
pub(crate) const FILL_ATTEMPTS: u32 = 2;

/// Blobs fetched from the origin at once; bounds the memory of a cold start.
pub(crate) const FILLS_AT_ONCE: usize = 64;

/// How long "the origin has no such blob" is remembered, and for how many blobs.
pub(crate) const ABSENT_FOR: Duration = Duration::from_millis(500);
/// See [`ABSENT_FOR`].
pub(crate) const ABSENT_ENTRIES: u64 = 10_000;

/// Blobs read from disk at once; each takes a thread.
pub(crate) const DISK_READS_AT_ONCE: usize = 32;

/// Blobs that wait in memory to be written to disk; what comes when all places are taken is not written.
pub(crate) const DISK_WRITES_WAITING: usize = 64;

/// How many blobs that had to make room are remembered, to tell why they are missed.
pub(crate) const EVICTED_ENTRIES: u64 = 50_000;

/// A playlist arrives from the origin in less; a stale one is served after that.
pub(crate) const PLAYLIST_DEADLINE: Duration = Duration::from_secs(5);

/// A growing playlist (or an answer that there is none) is asked for again after this.
pub(crate) const GROWING_FRESH: Duration = Duration::from_millis(200);

/// The same while word of new playlists comes through and came for this very asset.
pub(crate) const ANNOUNCED_FRESH: Duration = Duration::from_secs(2);

/// How long word of an asset's playlists counts, and for how many assets: longer than any segment.
pub(crate) const ANNOUNCED_FOR: Duration = Duration::from_secs(60);
/// See [`ANNOUNCED_FOR`].
pub(crate) const ANNOUNCED_ASSETS: u64 = 10_000;

/// A closed playlist changes only when an asset is taken down or gets another rendition.
pub(crate) const CLOSED_FRESH: Duration = Duration::from_secs(10);

/// How old a playlist may be served when the origin is away.
pub(crate) const STALE_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest playlist: ten hours in one-second segments with room to spare.
pub(crate) const PLAYLIST_BYTES: u64 = 16 * 1024 * 1024;

/// Memory for playlists.
pub(crate) const PLAYLIST_CACHE_BYTES: u64 = 64 * 1024 * 1024;
