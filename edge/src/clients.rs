//! What one client address may take, so that one does not starve the others.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bucket::Bucket;
use crate::limits::{CLIENTS_FORGOTTEN, CLIENTS_REMEMBERED, SHUT_OUT_FOR};

/// Limits of one client address; of an IPv6 address, the /64 that it is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections at once.
    pub connections: usize,
    /// Requests per second, in the long run; twice as many at once.
    pub requests_per_second: u32,
    /// Handshakes per second, in the long run; twice as many at once.
    pub handshakes_per_second: u32,
    /// Requests per second, of each connection, that the client may give up before they are answered.
    pub resets_per_second: u32,
    /// A connection with something to send that takes less than this is ended, …
    pub least_bytes_per_second: u64,
    /// … over this time.
    pub slow_for: Duration,
    /// Whether this machine's own addresses are limited too. What asks from there is a proxy or a tool, and speaks for
    /// many.
    pub loopback_too: bool,
}

/// All clients of late. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    limits: Arc<RwLock<ClientLimits>>,
    known: Cache<IpAddr, Arc<Client>>,
}

/// One client address.
#[derive(Debug)]
struct Client {
    /// Connections from where it has been seen to receive, and those that only claim to be from there.
    proven: AtomicUsize,
    /// See [`Self::proven`].
    claimed: AtomicUsize,
    requests: Mutex<Bucket>,
    /// Apart from the others, as with handshakes.
    early_requests: Mutex<Bucket>,
    handshakes: Mutex<Bucket>,
    /// Apart from the others, so that forged addresses use up nothing of those that are real.
    proven_handshakes: Mutex<Bucket>,
    /// As many requests as it may make may also be refused; who goes on after that does not listen.
    refusals: Mutex<Bucket>,
    /// Places for requests that are held, as many as it may have connections.
    holds: Arc<Semaphore>,
    /// Until then nothing of it is answered.
    shut_out_until: Mutex<Option<Instant>>,
}

/// Why a client does not get what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    Connections,
    Handshakes,
    Holds,
    Requests,
    Resets,
    Slow,
}

impl Excess {
    /// As in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Handshakes => "handshakes",
            Self::Holds => "holds",
            Self::Requests => "requests",
            Self::Resets => "resets",
            Self::Slow => "slow",
        }
    }
}

/// Whether an address has been seen to receive what is sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    Proven,
    Claimed,
}

impl Clients {
    pub(crate) fn new(limits: ClientLimits) -> Self {
        Self::remembering(limits, CLIENTS_FORGOTTEN)
    }

    fn remembering(limits: ClientLimits, idle: Duration) -> Self {
        let known = Cache::builder().max_capacity(CLIENTS_REMEMBERED).time_to_idle(idle).build();
        Self { limits: Arc::new(RwLock::new(limits)), known }
    }

    pub(crate) fn limits(&self) -> ClientLimits {
        *self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on; connections that are there keep what they have.
    pub(crate) fn set_limits(&self, limits: ClientLimits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
        // Tokens are counted by the old rates.
        self.known.invalidate_all();
    }

    /// Counts a connection for as long as what it returns lives.
    pub(crate) fn connect(&self, ip: IpAddr, address: Address) -> Result<ClientConnection, Excess> {
        let (now, limits) = (Instant::now(), self.limits());
        let Some((network, client)) = self.client(ip, &limits, now) else {
            return Ok(ClientConnection(None));
        };
        if client.is_shut_out(now) {
            return Err(Excess::Requests);
        }
        let handshakes = match address {
            Address::Proven => &client.proven_handshakes,
            Address::Claimed => &client.handshakes,
        };
        if !take(handshakes, now) {
            return Err(Excess::Handshakes);
        }
        // Counted before it is judged, and given back by the drop, so that a crowd does not slip through together.
        let others = match address {
            // Forged ones take no place from those that are real.
            Address::Proven => client.proven.fetch_add(1, Ordering::Relaxed),
            Address::Claimed => {
                client.claimed.fetch_add(1, Ordering::Relaxed) + client.proven.load(Ordering::Relaxed)
            }
        };
        let counted = Counted {
            client,
            network,
            known: self.known.clone(),
            most: limits.connections,
            is_proven: (address == Address::Proven).into(),
        };
        let connection = ClientConnection(Some(counted));
        if others >= limits.connections { Err(Excess::Connections) } else { Ok(connection) }
    }

    /// A place for a request of a client that is to be held; nothing stands for it where the client has no limits.
    pub(crate) fn hold(&self, ip: IpAddr) -> Result<Option<OwnedSemaphorePermit>, Excess> {
        let Some((_, client)) = self.client(ip, &self.limits(), Instant::now()) else { return Ok(None) };
        client.holds.clone().try_acquire_owned().map(Some).map_err(|_| Excess::Holds)
    }

    /// The client at an address, unless it has no limits.
    fn client(&self, ip: IpAddr, limits: &ClientLimits, now: Instant) -> Option<(IpAddr, Arc<Client>)> {
        let ip = ip.to_canonical();
        if ip.is_loopback() && !limits.loopback_too {
            return None;
        }
        let network = network(ip);
        Some((network, self.known.get_with(network, || Arc::new(Client::new(limits, now)))))
    }
}

impl Client {
    fn new(limits: &ClientLimits, now: Instant) -> Self {
        Self {
            proven: AtomicUsize::new(0),
            claimed: AtomicUsize::new(0),
            requests: Mutex::new(Bucket::new(limits.requests_per_second, now)),
            early_requests: Mutex::new(Bucket::new(limits.requests_per_second, now)),
            handshakes: Mutex::new(Bucket::new(limits.handshakes_per_second, now)),
            proven_handshakes: Mutex::new(Bucket::new(limits.handshakes_per_second, now)),
            refusals: Mutex::new(Bucket::new(limits.requests_per_second, now)),
            holds: Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS))),
            shut_out_until: Mutex::new(None),
        }
    }

    fn is_shut_out(&self, now: Instant) -> bool {
        self.shut_out_until().is_some_and(|until| now < until)
    }

    fn shut_out_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.shut_out_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take(bucket: &Mutex<Bucket>, now: Instant) -> bool {
    bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now)
}

/// What counts as one client.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// One connection of a client; nothing where the client has no limits.
#[derive(Debug)]
pub(crate) struct ClientConnection(Option<Counted>);

#[derive(Debug)]
struct Counted {
    client: Arc<Client>,
    network: IpAddr,
    known: Cache<IpAddr, Arc<Client>>,
    /// Connections that the client may have.
    most: usize,
    is_proven: AtomicBool,
}

impl ClientConnection {
    /// The client has been seen to receive what is sent to its address: from now on it counts among those.
    pub(crate) fn prove(&self) -> Result<(), Excess> {
        let Some(counted) = &self.0 else { return Ok(()) };
        if counted.is_proven.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        counted.client.claimed.fetch_sub(1, Ordering::Relaxed);
        let others = counted.client.proven.fetch_add(1, Ordering::Relaxed);
        if others >= counted.most { Err(Excess::Connections) } else { Ok(()) }
    }

    /// Whether the client may ask for one more thing now.
    pub(crate) fn may_ask(&self) -> bool {
        self.0.as_ref().is_none_or(|counted| {
            // So that nobody is forgotten, and counted anew, who has long-lived connections and uses them.
            let _ = counted.known.get(&counted.network);
            let (client, now) = (&counted.client, Instant::now());
            let may = take(&client.requests, now);
            if !may && !take(&client.refusals, now) {
                *client.shut_out_until() = Some(now + SHUT_OUT_FOR);
            }
            may
        })
    }

    /// The same before the handshake is over. Anybody can put an address on first packets, so that this takes nothing from what
    /// the address may ask, and shuts nobody out.
    pub(crate) fn may_ask_early(&self) -> bool {
        self.0.as_ref().is_none_or(|counted| take(&counted.client.early_requests, Instant::now()))
    }

    /// Whether the client has gone on asking for too much although it was told so, and is to be answered no more.
    pub(crate) fn is_shut_out(&self) -> bool {
        self.0.as_ref().is_some_and(|counted| counted.client.is_shut_out(Instant::now()))
    }
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        if let Some(counted) = &self.0 {
            let count = match counted.is_proven.load(Ordering::Relaxed) {
                true => &counted.client.proven,
                false => &counted.client.claimed,
            };
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ClientLimits = ClientLimits {
        connections: 3,
        requests_per_second: 10,
        handshakes_per_second: 50,
        resets_per_second: 5,
        least_bytes_per_second: 100,
        slow_for: Duration::from_secs(10),
        loopback_too: false,
    };

    #[test]
    fn a_client_has_so_many_connections_and_gives_them_back() {
        let clients = Clients::new(LIMITS);
        let connect = |ip: &str| clients.connect(ip.parse().unwrap(), Address::Proven);
        let held: Vec<_> = (1..4).map(|n| connect(&format!("2001:db8::{n}")).unwrap()).collect();
        assert_eq!(connect("2001:db8::9").unwrap_err(), Excess::Connections);
        assert!(connect("2001:db8:0:1::9").is_ok(), "another network");
        assert!(connect("192.0.2.1").is_ok());
        drop(held);
        assert!(connect("2001:db8::9").is_ok());
        let local: Vec<_> = (0..9).map(|_| connect("::ffff:127.0.0.1").unwrap()).collect();
        assert!(local.iter().all(|connection| (0..100).all(|_| connection.may_ask())));
    }

    #[test]
    fn as_many_requests_of_a_client_are_held_as_it_may_have_connections() {
        let clients = Clients::new(LIMITS);
        let hold = |ip: &str| clients.hold(ip.parse().unwrap());
        let held: Vec<_> = (1..4).map(|n| hold(&format!("2001:db8::{n}")).unwrap()).collect();
        assert_eq!(hold("2001:db8::9").unwrap_err(), Excess::Holds);
        assert!(hold("192.0.2.1").is_ok() && hold("127.0.0.1").unwrap().is_none());
        drop(held);
        assert!(hold("2001:db8::9").is_ok());
    }

    #[test]
    fn who_goes_on_asking_over_old_connections_is_not_forgotten() {
        let idle = Duration::from_secs(1);
        let clients = Clients::remembering(ClientLimits { requests_per_second: 1000, ..LIMITS }, idle);
        let connect = || clients.connect("192.0.2.1".parse().unwrap(), Address::Proven);
        let held: Vec<_> = (0..3).map(|_| connect().unwrap()).collect();
        let begun = Instant::now();
        while begun.elapsed() < idle * 2 {
            held[0].may_ask();
            std::thread::sleep(idle / 100);
        }
        assert_eq!(connect().unwrap_err(), Excess::Connections);
    }

    #[test]
    fn who_does_not_listen_is_shut_out() {
        let clients = Clients::new(LIMITS);
        let connect = |ip: &str| clients.connect(ip.parse().unwrap(), Address::Proven);
        let connection = connect("192.0.2.1").unwrap();
        assert_eq!((0..40).filter(|_| connection.may_ask()).count(), 20);
        assert!(!connection.is_shut_out(), "it was told so as often as it may ask");
        assert!((0..3).all(|_| !connection.may_ask()) && connection.is_shut_out());
        assert_eq!(connect("192.0.2.1").unwrap_err(), Excess::Requests);
        assert!(connect("192.0.2.2").is_ok());
    }

    #[test]
    fn forged_addresses_use_up_nothing_of_real_ones() {
        let clients = Clients::new(LIMITS);
        let ip = "192.0.2.1".parse().unwrap();
        let forged = (0..1000).map(|_| clients.connect(ip, Address::Claimed));
        assert!(forged.filter(|outcome| matches!(outcome, Err(Excess::Handshakes))).count() >= 890);
        assert!(clients.connect(ip, Address::Proven).is_ok());
    }

    #[test]
    fn forged_connections_take_no_place_from_real_ones() {
        let clients = Clients::new(LIMITS);
        let connect = |address| clients.connect("192.0.2.1".parse().unwrap(), address);
        let forged: Vec<_> = (0..3).map(|_| connect(Address::Claimed).unwrap()).collect();
        assert_eq!(connect(Address::Claimed).unwrap_err(), Excess::Connections);
        let real: Vec<_> = (0..2).map(|_| connect(Address::Proven).unwrap()).collect();
        assert_eq!(forged[0].prove(), Ok(()), "there is one more place");
        assert_eq!(forged[1].prove(), Err(Excess::Connections));
        assert_eq!(connect(Address::Proven).unwrap_err(), Excess::Connections);
        drop(forged);
        assert_eq!(connect(Address::Proven).map(drop), Ok(()));
        assert_eq!(real[0].prove(), Ok(()), "it was known");
        drop(real);
        let all: Vec<_> = (0..3).map(|_| connect(Address::Claimed).unwrap()).collect();
        assert!(all.iter().all(|connection| connection.prove().is_ok()));
    }

    #[test]
    fn forged_first_packets_shut_nobody_out() {
        let clients = Clients::new(LIMITS);
        let connect = |address| clients.connect("192.0.2.1".parse().unwrap(), address).unwrap();
        let forged = connect(Address::Claimed);
        assert_eq!((0..1000).filter(|_| forged.may_ask_early()).count(), 20);
        let real = connect(Address::Proven);
        assert_eq!((0..20).filter(|_| real.may_ask()).count(), 20);
    }
}
