//! Packets that the kernel dropped because a socket's buffer was full: the edge was too slow, or the buffer too small.

use std::io;
use std::time::Duration;

use tokio::time::sleep;

use crate::metrics::Metrics;

/// How often the kernel is asked.
const LOOK: Duration = Duration::from_secs(5);

/// Counts the drops of all sockets bound to `port`, for ever.
pub(crate) async fn watch(port: u16, metrics: Metrics) {
    let mut counted = 0;
    loop {
        match dropped(port).await {
            Ok(now) => {
                // A socket that was closed takes its count with it.
                metrics.quic.drops(now.saturating_sub(counted));
                counted = now;
            }
            Err(error) => tracing::debug!(%error, "cannot ask for dropped packets"),
        }
        sleep(LOOK).await;
    }
}

async fn dropped(port: u16) -> io::Result<u64> {
    let mut sum = 0;
    for table in ["/proc/net/udp", "/proc/net/udp6"] {
        match tokio::fs::read_to_string(table).await {
            Ok(text) => sum += text.lines().filter_map(|line| of_port(line, port)).sum::<u64>(),
            // A machine without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

/// Drops in a line of the table (`proc_pid_net(5)`): the last of its columns; the second is the local address.
fn of_port(line: &str, port: u16) -> Option<u64> {
    let mut columns = line.split_ascii_whitespace();
    let (_, local_port) = columns.nth(1)?.rsplit_once(':')?;
    if u16::from_str_radix(local_port, 16).ok()? != port {
        return None;
    }
    columns.last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_the_last_column_of_the_ports_own_lines() {
        let line = "  642: 0100007F:20FB 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 \
                    12345 2 0000000000000000 17";
        assert_eq!(of_port(line, 0x20fb), Some(17));
        assert_eq!(of_port(line, 0x20fc), None);
        assert_eq!(of_port("   sl  local_address rem_address   st tx_queue rx_queue drops", 1), None);
    }

    /// A socket whose buffer is full, told by the kernel itself.
    #[tokio::test]
    async fn the_kernels_own_count_is_read() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&receiver).set_recv_buffer_size(4096).unwrap();
        let address = receiver.local_addr().unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(dropped(address.port()).await.unwrap(), 0);
        for _ in 0..100 {
            sender.send_to(&[0; 1000], address).unwrap();
        }
        assert!(dropped(address.port()).await.unwrap() > 0);
    }
}
