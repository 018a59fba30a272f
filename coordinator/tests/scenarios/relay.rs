//! A network that breaks: a TCP relay that ends connections at random places, in all the ways in which they end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Works until it is dropped.
pub struct Relay {
    pub address: SocketAddr,
    cuts: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    /// Both sides hear of the end when so many bytes have gone up.
    Cut(u64),
    /// The caller hears of it, and the other side never does.
    Hang(u64),
    /// Everything goes up, and no answer comes back.
    Deaf,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// To `target`; no connection brings more than `most` bytes and lives.
    pub async fn start(target: String, most: u64, seed: u64) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicU32::new(0));
        let counter = cuts.clone();
        let task = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let mut connections = JoinSet::new();
            loop {
                let (down, _) = listener.accept().await.unwrap();
                let fate = match random.random_range(0..8) {
                    0..4 => Fate::Cut(random.random_range(0..most)),
                    4..7 => Fate::Hang(random.random_range(0..most)),
                    _ => Fate::Deaf,
                };
                connections.spawn(relay(down, target.clone(), fate, counter.clone()));
            }
        });
        Relay { address, cuts, task }
    }

    pub fn cuts(&self) -> u32 {
        self.cuts.load(Ordering::Relaxed)
    }
}

async fn relay(mut down: TcpStream, target: String, fate: Fate, cuts: Arc<AtomicU32>) {
    let Ok(mut up) = TcpStream::connect(target).await else { return };
    let mut left = match fate {
        Fate::Cut(bytes) | Fate::Hang(bytes) => bytes,
        Fate::Deaf => u64::MAX,
    };
    let (mut sent, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            read = down.read(&mut sent) => match read {
                Ok(0) | Err(_) => return,
                Ok(read) => {
                    let passed = left.min(read as u64);
                    left -= passed;
                    if up.write_all(&sent[..passed as usize]).await.is_err() {
                        return;
                    }
                    if left == 0 {
                        cuts.fetch_add(1, Ordering::Relaxed);
                        drop(down);
                        if matches!(fate, Fate::Hang(_)) {
                            std::future::pending::<()>().await;
                        }
                        return;
                    }
                }
            },
            read = up.read(&mut answered) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) if matches!(fate, Fate::Deaf) => {
                    cuts.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Ok(read) => {
                    if down.write_all(&answered[..read]).await.is_err() {
                        return;
                    }
                }
            },
        }
    }
}
