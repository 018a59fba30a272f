//! A way to a server on which only so many bytes pass before it is opened: a slow upload, without a clock.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// Bytes passed on at a time.
const PIECE_BYTES: usize = 16 << 10;

/// Lets connections through, and holds back what they send beyond a number of bytes. Answers pass freely.
#[derive(Debug)]
pub struct Gate {
    /// `http://…`, to be used in place of the server's address.
    pub address: String,
    left: Arc<Left>,
}

/// Bytes that may still pass; `None` when all may.
#[derive(Debug)]
struct Left {
    bytes: Mutex<Option<u64>>,
    changed: Condvar,
}

impl Gate {
    /// Before the server at `http://HOST:PORT`, for so many bytes.
    pub fn before(server: &str, bytes: u64) -> Gate {
        let server = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("its address"));
        let left = Arc::new(Left { bytes: Mutex::new(Some(bytes)), changed: Condvar::new() });
        let of_all = left.clone();
        thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let (Ok(to_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else {
                    continue;
                };
                let left = of_all.clone();
                thread::spawn(move || pass(client, server, |bytes| left.take(bytes)));
                thread::spawn(move || pass(from_server, to_client, |_| {}));
            }
        });
        Gate { address, left }
    }

    /// From now on everything passes.
    pub fn open(&self) {
        *self.left.bytes.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.left.changed.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

impl Left {
    /// Waits until so many bytes may pass.
    fn take(&self, wanted: u64) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(left) = *bytes {
            if left >= wanted {
                *bytes = Some(left - wanted);
                return;
            }
            bytes = self.changed.wait(bytes).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, before: impl Fn(u64)) {
    let mut piece = [0; PIECE_BYTES];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        before(read as u64);
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
