//! Calls to other systems. Addresses of private networks are refused unless a setting allows them: an address that a user chooses,
//! or a name that changes its address, must not lead into the operator's own network.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ureq::{
    Agent, Error,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

/// The largest answer.
const ANSWER_BYTES_MAX: u64 = 8 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);

/// True for addresses that only the operator's own network, or nobody, answers on.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => is_private_v6(v6),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0)
        || (a == 198 && (18..20).contains(&b))
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    if let Some(v4) = address.to_ipv4_mapped() {
        return is_private_v4(v4);
    }
    // NAT64 and 6to4 carry an address of version 4 inside.
    let [a, b, c, ..] = address.segments();
    let octets = address.octets();
    let inner = |at: usize| -> Option<Ipv4Addr> {
        let four: [u8; 4] = octets.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(four))
    };
    let carries_private = (a == 0x64 && b == 0xff9b && inner(12).is_none_or(is_private_v4))
        || (a == 0x2002 && inner(2).is_none_or(is_private_v4));
    address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || (a & 0xfe00) == 0xfc00
        || (a & 0xffc0) == 0xfe80
        || (a == 0x2001 && b == 0xdb8)
        || (a == 0 && b == 0 && c == 0)
        || carries_private
}

/// Looks names up as usual, and leaves out what may not be called: checked on the address that is then connected to.
#[derive(Debug)]
struct Guarded {
    inner: DefaultResolver,
    allow_private: bool,
}

impl Resolver for Guarded {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        let mut allowed = self.empty();
        for address in found.iter().filter(|address| self.allow_private || !is_private(address.ip())) {
            allowed.push(*address);
        }
        if allowed.is_empty() { Err(Error::HostNotFound) } else { Ok(allowed) }
    }
}

/// Gets a text. Blocking. No redirects are followed, and what went wrong is said without the other system's own words.
pub(crate) fn get(url: &str, allow_private: bool, key: &str) -> Result<String, String> {
    let config = Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .proxy(None)
        .build();
    let resolver = Guarded { inner: DefaultResolver::default(), allow_private };
    let agent = Agent::with_parts(config, DefaultConnector::default(), resolver);
    let answer = agent.get(url).header("accept", "application/json").header("idempotency-key", key).call();
    let mut answer = answer.map_err(|error| match error {
        Error::HostNotFound => {
            "the external system's address is unknown, or private and not allowed".to_owned()
        }
        Error::Timeout(_) => "the external system did not answer in time".to_owned(),
        _ => "the external system cannot be reached".to_owned(),
    })?;
    if !answer.status().is_success() {
        return Err(format!("the external system answered with status {}", answer.status().as_u16()));
    }
    let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    text.map_err(|_| "the external system's answer cannot be read".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_known() {
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
        ];
        for address in private {
            assert!(is_private(address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1"] {
            assert!(!is_private(address.parse().unwrap()), "{address}");
        }
    }
}
