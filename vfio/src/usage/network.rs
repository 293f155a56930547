//! Network interfaces of a PCI function, and whether the host is reached through them: routes from /proc/net/route and
//! /proc/net/ipv6_route (net/ipv4/fib_trie.c, net/ipv6/route.c), the ssh session from the environment of our ancestors.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use devices::pci::PciAddress;

use super::Use;
use crate::sysfs::{Host, entries, has_component, link_name};
use crate::text;

/// RTF_UP and RTF_REJECT of linux/route.h.
const UP: u32 = 1;
const REJECT: u32 = 0x200;
/// More ancestors than a process has.
const MOST_ANCESTORS: usize = 64;

pub(super) fn uses(host: &Host, address: PciAddress) -> Vec<Use> {
    let interfaces = interfaces(host, address);
    if interfaces.is_empty() {
        return Vec::new();
    }
    let routes = Route::all(host);
    let mut defaults: Vec<&str> = routes
        .iter()
        .filter(|route| route.prefix == 0 && interfaces.contains(&route.interface))
        .map(|route| route.interface.as_str())
        .collect();
    defaults.sort_unstable();
    defaults.dedup();
    let mut uses: Vec<Use> =
        defaults.into_iter().map(|interface| Use::DefaultRoute { interface: interface.to_owned() }).collect();
    if let Some(peer) = session_peer(host)
        && let Some(interface) = peer.interface(&routes).filter(|interface| interfaces.contains(*interface))
    {
        uses.push(Use::Session { interface: interface.to_owned(), peer: peer.address.to_string() });
    }
    uses
}

/// The function's interfaces, and the bridges, bonds and VLANs on top of them.
fn interfaces(host: &Host, address: PciAddress) -> BTreeSet<String> {
    let class = host.sys.join("class/net");
    let belongs =
        |name: &String| fs::read_link(class.join(name)).is_ok_and(|link| has_component(&link, address));
    let mut found = BTreeSet::new();
    let mut left: Vec<String> = entries(&class).into_iter().filter(belongs).collect();
    while let Some(name) = left.pop() {
        if found.contains(&name) {
            continue;
        }
        let directory = class.join(&name);
        left.extend(link_name(&directory.join("master")));
        let names = entries(&directory);
        left.extend(names.iter().filter_map(|name| name.strip_prefix("upper_")).map(str::to_owned));
        found.insert(name);
    }
    found
}

/// A route of the main table.
#[derive(Debug, PartialEq, Eq)]
struct Route {
    interface: String,
    /// Destination, in the upper bits; IPv4 is told apart by `is_v4`.
    destination: u128,
    /// Bits of the destination that count.
    prefix: u32,
    metric: u32,
    is_v4: bool,
}

impl Route {
    fn all(host: &Host) -> Vec<Self> {
        let v4 = text::read_or_empty(&host.proc.join("net/route"));
        let v6 = text::read_or_empty(&host.proc.join("net/ipv6_route"));
        v4.lines().filter_map(Self::parse_v4).chain(v6.lines().filter_map(Self::parse_v6)).collect()
    }

    /// `eth0 0202000A 00000000 0003 0 0 100 00FFFFFF ..`: addresses as the CPU reads them from memory.
    fn parse_v4(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[interface, destination, _, flags, _, _, metric, mask, ..] = fields.as_slice() else {
            return None;
        };
        let hex = |text| u32::from_str_radix(text, 16).ok();
        if hex(flags)? & (UP | REJECT) != UP {
            return None;
        }
        Some(Self {
            interface: interface.to_owned(),
            destination: u128::from(hex(destination)?.swap_bytes()) << 96,
            prefix: hex(mask)?.swap_bytes().leading_ones(),
            metric: metric.parse().ok()?,
            is_v4: true,
        })
    }

    /// `DESTINATION PREFIX SOURCE PREFIX NEXTHOP METRIC REFERENCES USE FLAGS INTERFACE`, all in hexadecimal.
    fn parse_v6(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[destination, prefix, _, _, _, metric, _, _, flags, interface] = fields.as_slice() else {
            return None;
        };
        let hex = |text| u32::from_str_radix(text, 16).ok();
        let flags = hex(flags)?;
        if flags & (UP | REJECT) != UP || interface == "lo" {
            return None;
        }
        Some(Self {
            interface: interface.to_owned(),
            destination: u128::from_str_radix(destination, 16).ok()?,
            prefix: hex(prefix).filter(|prefix| *prefix <= 128)?,
            metric: hex(metric)?,
            is_v4: false,
        })
    }

    fn leads_to(&self, address: u128, is_v4: bool) -> bool {
        let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
        self.is_v4 == is_v4 && (self.destination ^ address) & mask == 0
    }
}

/// The other end of an ssh session.
#[derive(Debug, PartialEq, Eq)]
struct Peer {
    address: IpAddr,
    /// The interface of a link-local address.
    scope: Option<String>,
}

impl Peer {
    /// `SSH_CONNECTION`: `CLIENT PORT SERVER PORT`.
    fn parse(connection: &str) -> Option<Self> {
        let client = connection.split(' ').next()?;
        let (address, scope) = client.split_once('%').map_or((client, None), |(a, s)| (a, Some(s)));
        let address = match address.parse().ok()? {
            IpAddr::V6(address) => address.to_canonical(),
            address => address,
        };
        Some(Self { address, scope: scope.map(str::to_owned) })
    }

    /// Where packets to it leave: the longest prefix, then the least metric.
    fn interface<'a>(&'a self, routes: &'a [Route]) -> Option<&'a str> {
        if let Some(scope) = &self.scope {
            return Some(scope);
        }
        let bits = match self.address {
            IpAddr::V4(address) => u128::from(Ipv4Addr::to_bits(address)) << 96,
            IpAddr::V6(address) => Ipv6Addr::to_bits(address),
        };
        let leading = routes.iter().filter(|route| route.leads_to(bits, self.address.is_ipv4()));
        let best = leading.min_by_key(|route| (128 - route.prefix, route.metric));
        best.map(|route| route.interface.as_str())
    }
}

/// Whether we run in an ssh session. `sudo` clears the environment; the shell above it still has it.
fn session_peer(host: &Host) -> Option<Peer> {
    let mut process = "self".to_owned();
    for _ in 0..MOST_ANCESTORS {
        let directory = host.proc.join(&process);
        let environment = text::read_or_empty(&directory.join("environ"));
        let connection = environment.split('\0').find_map(|entry| entry.strip_prefix("SSH_CONNECTION="));
        if let Some(peer) = connection.and_then(Peer::parse) {
            return Some(peer);
        }
        let status = text::read_or_empty(&directory.join("status"));
        let parent: u32 = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
        if parent <= 1 {
            return None;
        }
        process = parent.to_string();
    }
    None
}

#[cfg(test)]
#[path = "network_test.rs"]
mod tests;
