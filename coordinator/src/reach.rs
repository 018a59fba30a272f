//! Which addresses may be called on behalf of tenants: the public ones, so that nobody reaches what is behind our walls, and
//! those that the operator allows besides.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A name leads to no address that may be called.
#[derive(Debug, thiserror::Error)]
#[error("{0} has no address that may be called")]
pub struct OutOfReach(String);

/// Addresses that may be called. As a resolver it finds no others: it is asked for each connection, and connections go to
/// the very addresses that it gives, so that a name cannot change its mind in between.
#[derive(Debug, Clone)]
pub struct Reach {
    public: bool,
    also: Vec<IpNet>,
}

impl Reach {
    /// The public ones, and these.
    pub fn public_and(also: Vec<IpNet>) -> Reach {
        Reach { public: true, also }
    }

    /// These only.
    pub fn only(also: Vec<IpNet>) -> Reach {
        Reach { public: false, also }
    }

    /// Nothing may be called.
    pub fn is_empty(&self) -> bool {
        !self.public && self.also.is_empty()
    }

    /// Whether an address may be called.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        (self.public && is_public(address)) || self.also.iter().any(|network| network.contains(&address))
    }

    /// Those of a name's addresses that may be called.
    fn among(&self, name: &Name, found: impl Iterator<Item = SocketAddr>) -> Result<Addrs, OutOfReach> {
        let allowed: Vec<SocketAddr> = found.filter(|address| self.allows(address.ip())).collect();
        if allowed.is_empty() {
            return Err(OutOfReach(name.as_str().to_owned()));
        }
        Ok(Box::new(allowed.into_iter()))
    }

    /// Whether an address in a URL may be called; names are looked at when they are resolved.
    pub fn allows_url(&self, url: &reqwest::Url) -> bool {
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        host.parse().map_or(true, |address| self.allows(address))
    }
}

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(reach.among(&name, found)?)
        })
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let carrier = a == 100 && (64..128).contains(&b);
    let protocols = (a, b, c) == (192, 0, 0) || (a, b, c) == (192, 88, 99);
    let benchmarks = a == 198 && (b == 18 || b == 19);
    !(a == 0
        || a >= 224
        || v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_documentation()
        || carrier
        || protocols
        || benchmarks)
}

/// Global unicast is 2000::/3; within it, what carries an IPv4 address (Teredo, 6to4) leads elsewhere. NAT64, IPv4-mapped and
/// IPv4-compatible addresses lie outside of it.
fn is_public_v6(v6: Ipv6Addr) -> bool {
    let [a, b, ..] = v6.segments();
    let special = a == 0x2001 && (b < 0x200 || b == 0xdb8);
    a & 0xe000 == 0x2000 && !special && a != 0x2002 && a != 0x3fff
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
    use tokio::net::TcpListener;

    use super::*;

    fn url(host: &str) -> reqwest::Url {
        reqwest::Url::parse(&format!("http://{host}/")).unwrap()
    }

    #[test]
    fn only_public_addresses_may_be_called() {
        let reach = Reach::public_and(Vec::new());
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "0.0.0.0",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[::127.0.0.1]",
            "[fe80::1]",
            "[fd00::1]",
            "[ff02::1]",
            "[febf::1]",
            "[::ffff:10.0.0.1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:169.254.169.254]",
            "[::ffff:0.0.0.0]",
            "[2001:0:4136:e378::1]",
            "[2001:db8::1]",
            "[2002:0a00:0001::1]",
            "[64:ff9b::a00:1]",
            "[64:ff9b:1::a00:1]",
            "2130706433",
            "0x7f.1",
            "017700000001",
        ] {
            assert!(!reach.allows_url(&url(inside)), "{inside}");
        }
        for outside in
            ["1.1.1.1", "172.32.0.1", "100.128.0.1", "[2606:4700::1111]", "[::ffff:1.1.1.1]", "example.com"]
        {
            assert!(reach.allows_url(&url(outside)), "{outside}");
        }
    }

    #[test]
    fn the_operator_may_allow_more_or_other_ones() {
        let inside: Vec<IpNet> = vec!["10.1.0.0/16".parse().unwrap(), "::1/128".parse().unwrap()];
        let more = Reach::public_and(inside.clone());
        let other = Reach::only(inside);
        for allowed in ["10.1.2.3", "[::ffff:10.1.2.3]", "[::1]"] {
            assert!(more.allows_url(&url(allowed)) && other.allows_url(&url(allowed)), "{allowed}");
        }
        for refused in ["10.2.0.1", "127.0.0.1", "169.254.169.254"] {
            assert!(!more.allows_url(&url(refused)) && !other.allows_url(&url(refused)), "{refused}");
        }
        assert!(more.allows_url(&url("1.1.1.1")) && !other.allows_url(&url("1.1.1.1")));
    }

    #[tokio::test]
    async fn names_are_judged_by_what_they_lead_to() {
        let name = || "localhost".parse().unwrap();
        let refused = Reach::public_and(Vec::new()).resolve(name()).await.err().unwrap();
        assert!(refused.downcast_ref::<OutOfReach>().is_some());
        let allowed = Reach::only(vec!["127.0.0.0/8".parse().unwrap()]);
        let found: Vec<SocketAddr> = allowed.resolve(name()).await.unwrap().collect();
        assert!(!found.is_empty() && found.iter().all(|address| address.is_ipv4()));
    }

    #[test]
    fn of_mixed_addresses_the_allowed_ones_are_called() {
        let found = ["10.0.0.1:0", "1.1.1.1:0", "[::ffff:127.0.0.1]:0", "[64:ff9b::7f00:1]:0"];
        let found = || found.iter().map(|address| address.parse().unwrap());
        let (reach, name) = (Reach::public_and(Vec::new()), "mixed.test".parse().unwrap());
        let allowed: Vec<SocketAddr> = reach.among(&name, found()).unwrap().collect();
        assert_eq!(allowed, ["1.1.1.1:0".parse().unwrap()]);
        assert!(reach.among(&name, found().filter(|address| !allowed.contains(address))).is_err());
    }

    /// A name that leads to another place each time that it is looked up.
    struct Rebinding {
        reach: Reach,
        leads_to: Mutex<Vec<IpAddr>>,
    }

    impl Resolve for Rebinding {
        fn resolve(&self, name: Name) -> Resolving {
            let next = self.leads_to.lock().unwrap().pop().unwrap();
            let found = self.reach.among(&name, [SocketAddr::new(next, 0)].into_iter());
            Box::pin(async { Ok(found?) })
        }
    }

    #[tokio::test]
    async fn a_name_that_changes_its_mind_is_called_where_it_was_checked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://rebinding.test:{}/", listener.local_addr().unwrap().port());
        let leads_to = Mutex::new(vec!["169.254.169.254".parse().unwrap(), "127.0.0.1".parse().unwrap()]);
        let resolver =
            Arc::new(Rebinding { reach: Reach::only(vec!["127.0.0.1/32".parse().unwrap()]), leads_to });
        let client = reqwest::Client::builder().no_proxy().dns_resolver(resolver.clone()).build().unwrap();
        let answer = async {
            let mut stream = BufStream::new(listener.accept().await.unwrap().0);
            let mut line = String::new();
            while stream.read_line(&mut line).await.unwrap() > "\r\n".len() {}
            let close = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
            stream.write_all(close).await.unwrap();
            stream.flush().await.unwrap();
        };
        let (called, ()) = tokio::join!(client.get(&url).send(), answer);
        assert_eq!(called.unwrap().status(), 204);
        assert_eq!(resolver.leads_to.lock().unwrap().len(), 1, "the one look-up was checked and called");

        let refused = client.get(&url).send().await.unwrap_err();
        let mut cause = refused.source();
        while let Some(outer) = cause.filter(|cause| !cause.is::<OutOfReach>()) {
            cause = outer.source();
        }
        assert!(cause.is_some(), "{refused:?}");
    }
}
