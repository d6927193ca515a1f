//! Where Remit does not send: addresses that only this server can reach (server-side request forgery).
//!
//! A URL is checked when it is registered and at every delivery, with every address that its host has at that moment, and
//! the connection goes to an address that was checked. What somebody who runs the server has named is let through.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The longest URL, in bytes.
pub(super) const URL_BYTES: usize = 2_048;
/// How long a host may take to be resolved.
const PATIENCE: Duration = Duration::from_secs(5);
/// The one port that needs no leave.
const PORT: u16 = 443;

/// Finds the addresses of a host.
pub(super) type Lookup =
    Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// What says where may be sent.
pub(super) struct Guard {
    /// Hosts with their ports to which may be sent whatever their addresses are.
    allow: Vec<String>,
    lookup: Lookup,
}

/// A URL to which may be sent, as far as its text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) url: Url,
    /// Whether whoever runs the server has named it.
    pub(super) named: bool,
}

/// Why nothing is sent to a URL. It names no address: what a name means inside is nobody's business outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

/// Finds addresses as this machine does.
pub(super) fn system() -> Lookup {
    Arc::new(|host| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), PORT)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

// === impl Guard ===

impl Guard {
    pub(super) fn new(allow: Vec<String>, lookup: Lookup) -> Self {
        Self { allow, lookup }
    }

    /// Checks the text of a URL.
    pub(super) fn read(&self, text: &str) -> Result<Target, Refused> {
        let refused = |why: &str| Err(Refused(why.to_owned()));
        if text.len() > URL_BYTES {
            return refused(&format!("at most {URL_BYTES} bytes were expected"));
        }
        if text.contains('\\') {
            return refused("a URL without a backslash, which some read as a slash, was expected");
        }
        let Ok(url) = text.parse::<Url>() else {
            return refused("an https URL was expected");
        };
        if !matches!(url.scheme(), "https" | "http") {
            return refused("an https URL was expected");
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return refused("a URL without a user, a password and a fragment was expected");
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return refused("a URL with a host was expected");
        };
        if !spelled(text, host) {
            return refused(
                "a host in its plain spelling was expected: a name in lower case and ASCII, four decimal numbers, or an \
                 address of IPv6 in brackets",
            );
        }
        let named = self.allow.contains(&format!("{host}:{port}"));
        if !named && url.scheme() != "https" {
            return refused(
                "an https URL was expected; others are named by whoever runs the server (`webhooks.allow`)",
            );
        }
        if !named && port != PORT {
            return refused(
                "port 443 was expected; others are named by whoever runs the server (`webhooks.allow`)",
            );
        }
        if let (false, Some(address)) = (named, literal(host)) {
            check(address)?;
        }
        Ok(Target { url, named })
    }

    /// Checks a URL with the addresses that its host has now.
    pub(super) async fn check(&self, text: &str) -> Result<Target, Refused> {
        let target = self.read(text)?;
        let host = target.url.host_str().unwrap_or_default();
        if !target.named && literal(host).is_none() {
            self.addresses(host).await?;
        }
        Ok(target)
    }

    /// Returns the addresses of a host, all of which may be sent to.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Refused> {
        let found = tokio::time::timeout(PATIENCE, (self.lookup)(host.to_owned())).await;
        let found = found.ok().and_then(Result::ok).unwrap_or_default();
        if found.is_empty() {
            return Err(Refused("the host cannot be resolved".to_owned()));
        }
        for address in &found {
            check(*address)?;
        }
        Ok(found)
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        // What is connected to is what was checked here, whatever the name means a moment later.
        let own = Self {
            allow: Vec::new(),
            lookup: Arc::clone(&self.lookup),
        };
        Box::pin(async move {
            let found = own.addresses(name.as_str()).await?;
            let found = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(found) as Addrs)
        })
    }
}

/// Whether the host is spelled in the text as it was understood, and so as a person reads it.
fn spelled(text: &str, host: &str) -> bool {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    authority
        .strip_prefix(host)
        .is_some_and(|port| port.is_empty() || port.starts_with(':'))
}

/// Reads a host that is an address.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

/// Checks that an address is one of the internet's.
fn check(address: IpAddr) -> Result<(), Refused> {
    let public = match address {
        IpAddr::V4(address) => is_public(address),
        IpAddr::V6(address) => is_global(address),
    };
    if public {
        return Ok(());
    }
    let why = "the host has an address that is not of the internet: loopback, private, link-local, multicast or reserved; \
               one inside is named by whoever runs the server (`webhooks.allow`)";
    Err(Refused(why.to_owned()))
}

/// Blocks of IPv4 that are not of the internet (IANA's registry of special addresses), and how many bits of each count.
const RESERVED: [([u8; 4], u32); 16] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    // What a cloud answers its machines at, though it looks public.
    ([168, 63, 129, 16], 32),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

fn is_public(address: Ipv4Addr) -> bool {
    let bits = address.to_bits();
    !RESERVED.iter().any(|(block, length)| {
        let block = Ipv4Addr::from(*block).to_bits();
        (bits ^ block).leading_zeros() >= *length
    })
}

/// Whether an address of IPv6 is global unicast and holds none of IPv4: 2000::/3 without what is for protocols, tunnels
/// (Teredo, 6to4) and examples. What is mapped, compatible or translated (NAT64) is outside of it.
fn is_global(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let unicast = first & 0xe000 == 0x2000;
    let protocols = first == 0x2001 && second < 0x0200;
    let examples = (first == 0x2001 && second == 0x0db8) || (first == 0x3fff && second < 0x1000);
    let six_to_four = first == 0x2002;
    // ISATAP has an address of IPv4 behind these.
    let [.., isatap, marker, _, _] = address.segments();
    let tunnelled = marker == 0x5efe && isatap & 0xfdff == 0;
    unicast && !protocols && !examples && !six_to_four && !tunnelled
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn guard() -> Guard {
        Guard::new(
            vec!["127.0.0.1:9000".to_owned(), "inside.test:8443".to_owned()],
            no_host(),
        )
    }

    fn no_host() -> Lookup {
        Arc::new(|_| Box::pin(async { Err(io::Error::other("there is no such host")) }))
    }

    #[test]
    fn addresses_inside_are_refused_in_every_spelling() {
        let inside = [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0x7f.1",
            "127.0.0.1.",
            "0",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "100.64.0.1",
            "100.127.255.255",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "198.18.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::ffff:169.254.169.254]",
            "[::ffff:8.8.8.8]",
            "[::127.0.0.1]",
            "[2002:7f00:1::]",
            "[2002:a9fe:a9fe::1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b::169.254.169.254]",
            "[64:ff9b:1::1]",
            "[2001::1]",
            "[2001:db8::1]",
            "[2a00::5efe:7f00:1]",
            "[2a00::200:5efe:a00:1]",
            "１２７.0.0.1",
            "127。0。0。1",
            "①②⑦.0.0.1",
            "%31%32%37.0.0.1",
        ];
        for host in inside {
            assert!(guard().read(&format!("https://{host}/")).is_err(), "{host}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_not_refused() {
        let outside = [
            "8.8.8.8",
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "169.253.0.1",
            "223.255.255.255",
            "[2606:4700:4700::1111]",
            "[2a00:1450:4001::1]",
            "[2001:4860:4860::8888]",
        ];
        for host in outside {
            let read = guard().read(&format!("https://{host}/hook"));
            assert!(read.is_ok_and(|target| !target.named), "{host}");
        }
    }

    #[test]
    fn what_is_no_plain_https_url_is_refused() {
        let long = format!("https://a.test/{}", "a".repeat(URL_BYTES));
        let refused = [
            "",
            "a.test",
            "//a.test",
            "ftp://a.test/",
            "file:///etc/passwd",
            "gopher://a.test/",
            "http://a.test/",
            "https://a.test:8443/",
            "https://a.test:22/",
            "https://user@a.test/",
            "https://u:p@a.test/",
            "https://a.test/#there",
            "https://127.0.0.1:9000@a.test/",
            "https://A.test/",
            "https:a.test",
            "https:///a.test",
            "https://a.test\\@127.0.0.1/",
            "https://bücher.test/",
            long.as_str(),
        ];
        for url in refused {
            assert!(guard().read(url).is_err(), "{url}");
        }
        assert!(guard().read("https://a.test/path?query=1").is_ok());
        assert!(guard().read("https://a.test:443/").is_ok());
    }

    #[test]
    fn what_is_named_is_let_through_at_its_port_alone() {
        let named = |url: &str| guard().read(url).is_ok_and(|target| target.named);
        assert!(named("http://127.0.0.1:9000/hook"));
        assert!(named("https://inside.test:8443/hook"));
        assert!(!named("http://127.0.0.1:9001/hook"));
        assert!(!named("https://127.0.0.1/hook"));
        assert!(!named("http://127.1:9000/hook"));
    }

    /// A name that means something else every second time.
    fn rebinding(calls: Arc<AtomicUsize>) -> Lookup {
        Arc::new(move |_| {
            let nth = calls.fetch_add(1, Ordering::SeqCst);
            let address = if nth.is_multiple_of(2) {
                [8, 8, 8, 8]
            } else {
                [127, 0, 0, 1]
            };
            Box::pin(async move { Ok(vec![IpAddr::from(address)]) })
        })
    }

    #[tokio::test]
    async fn a_name_that_means_something_else_later_is_refused_then() {
        let calls = Arc::new(AtomicUsize::new(0));
        let guard = Guard::new(Vec::new(), rebinding(Arc::clone(&calls)));
        assert!(guard.check("https://a.test/").await.is_ok());
        let refused = match "a.test".parse() {
            Ok(name) => guard.resolve(name).await.is_err(),
            Err(_) => false,
        };
        assert!(refused);
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn one_address_inside_among_others_is_enough_to_refuse() {
        let lookup: Lookup = Arc::new(|_| {
            let both = vec![IpAddr::from([8, 8, 8, 8]), IpAddr::from([10, 0, 0, 1])];
            Box::pin(async move { Ok(both) })
        });
        let guard = Guard::new(Vec::new(), lookup);
        assert!(guard.check("https://a.test/").await.is_err());
        let nothing = Guard::new(Vec::new(), no_host());
        assert!(nothing.check("https://a.test/").await.is_err());
    }
}
