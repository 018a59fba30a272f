//! Traces of QUIC connections for whoever looks for a fault: qlog (draft-ietf-quic-qlog-main-schema) as a JSON text sequence
//! (RFC 7464), of as many connections as were asked for, and of none otherwise.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use jiff::Timestamp;
use quinn::{QlogConfig, QlogStream};

use crate::limits::{TRACE_BYTES, TRACES};

/// Which connections are to be traced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceWish {
    /// The next so many.
    pub connections: u32,
    /// From this network; from everywhere if there is none.
    pub network: Option<IpNet>,
}

/// Makes traces. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Traces {
    /// Where they lie; nowhere, there are none.
    folder: Option<PathBuf>,
    wish: Arc<Mutex<TraceWish>>,
}

impl Traces {
    pub(crate) fn new(folder: Option<PathBuf>, wish: TraceWish) -> Self {
        Self { folder, wish: Arc::new(Mutex::new(wish)) }
    }

    /// What is wished from now on.
    pub(crate) fn ask_for(&self, wish: TraceWish) {
        *self.wish.lock().unwrap_or_else(PoisonError::into_inner) = wish;
    }

    /// Begins the trace of a connection, if it is wished for and there is room.
    pub(crate) fn begin(&self, peer: SocketAddr) -> Option<QlogStream> {
        let folder = self.folder.as_ref()?;
        if !self.wish.lock().unwrap_or_else(PoisonError::into_inner).grant(peer) {
            return None;
        }
        let path = folder.join(format!("{}-{}.sqlog", Timestamp::now().as_microsecond(), peer.port()));
        let open = || -> io::Result<File> {
            fs::create_dir_all(folder)?;
            if fs::read_dir(folder)?.count() >= TRACES {
                return Err(io::Error::other(format!("there are {TRACES} files already")));
            }
            File::create_new(&path)
        };
        match open() {
            Ok(file) => {
                tracing::info!(%peer, path = %path.display(), "tracing a connection");
                let mut config = QlogConfig::default();
                config.title(Some(peer.to_string())).writer(Box::new(Records::new(file)));
                config.into_stream()
            }
            Err(error) => {
                tracing::warn!(%peer, path = %path.display(), %error, "cannot trace a connection");
                None
            }
        }
    }
}

impl TraceWish {
    fn grant(&mut self, peer: SocketAddr) -> bool {
        let meant = self.network.is_none_or(|network| network.contains(&peer.ip().to_canonical()));
        let granted = meant && self.connections > 0;
        self.connections -= u32::from(granted);
        granted
    }
}

/// A file of whole records, and of no more than [`TRACE_BYTES`].
struct Records<W: Write> {
    file: BufWriter<W>,
    /// The record that is being written; it ends with its only line feed.
    record: Vec<u8>,
    left: usize,
}

impl<W: Write> Records<W> {
    fn new(file: W) -> Self {
        Self { file: BufWriter::new(file), record: Vec::new(), left: TRACE_BYTES }
    }
}

/// What does not fit is left out without a word: the connection goes on, and its trace is readable up to there.
impl<W: Write> Write for Records<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.record.extend_from_slice(bytes);
        if bytes.ends_with(b"\n") {
            self.left = self.left.saturating_sub(self.record.len());
            if self.left > 0 {
                self.file.write_all(&self.record)?;
            }
            self.record.clear();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_were_asked_for_from_where_it_was_said() {
        let near: SocketAddr = "192.0.2.7:1".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:192.0.2.8]:1".parse().unwrap();
        let far: SocketAddr = "198.51.100.1:1".parse().unwrap();
        let mut wish = TraceWish { connections: 2, network: Some("192.0.2.0/24".parse().unwrap()) };
        assert_eq!([far, near, mapped, near].map(|peer| wish.grant(peer)), [false, true, true, false]);
        let mut wish = TraceWish { connections: 1, network: None };
        assert_eq!([far, near].map(|peer| wish.grant(peer)), [true, false]);
    }

    #[test]
    fn a_file_holds_whole_records_and_ends_in_time() {
        let mut file = Vec::new();
        let mut records = Records::new(&mut file);
        let record = [&b"\x1e{\"x\":\""[..], &[b'x'; 1000], b"\"}", b"\n"];
        for part in record.iter().cycle().take(record.len() * (TRACE_BYTES / 1000)) {
            records.write_all(part).unwrap();
        }
        drop(records);
        assert!(file.len() <= TRACE_BYTES && file.len() > TRACE_BYTES - 2000);
        assert!(file.split_inclusive(|byte| *byte == b'\n').all(|one| *one == record.concat()));
    }

    #[test]
    fn a_full_folder_takes_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let traces = Traces::new(Some(path.clone()), TraceWish::default());
        let begin = |port: u16| traces.begin(SocketAddr::from(([192, 0, 2, 1], port))).is_some();
        assert!(!begin(1));
        traces.ask_for(TraceWish { connections: u32::MAX, network: None });
        for port in 0..TRACES as u16 {
            assert!(begin(port));
        }
        assert!(!begin(u16::MAX));
        assert_eq!(fs::read_dir(path).unwrap().count(), TRACES);
    }
}
