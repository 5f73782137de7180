//! Places for requests with files: so many at once in all, and a share of them for one caller.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{extract::ConnectInfo, http::request::Parts};
use uuid::Uuid;

use crate::{Error, Result, runtime::Caller};

/// In all; beyond it the answer is 503.
const PLACES: usize = 64;
/// For one caller.
const SHARE: usize = 8;

/// Whose share a place is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// Whoever acts as a root.
    Root(Uuid),
    /// Whoever is not known and calls from there.
    Address(Option<IpAddr>),
}

impl Who {
    /// The caller of a request.
    pub(crate) fn of(caller: &Caller, parts: &Parts) -> Self {
        if !caller.is_public() {
            return Self::Root(caller.root);
        }
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Self::Address(peer.map(|ConnectInfo(address)| network(address.ip())))
    }
}

/// An address of version 6 is one of many that its owner has: the first half says who that is.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (!0 << 64)).into(),
        address => address,
    }
}

/// Those that are taken, no more entries than there are places.
#[derive(Default)]
pub(crate) struct Places {
    taken: Mutex<HashMap<Who, usize>>,
}

impl Places {
    /// Takes one.
    ///
    /// # Errors
    /// [`Error::Busy`] when there is none, or none of the caller's share.
    pub(crate) fn take(self: &Arc<Self>, who: Who) -> Result<Place> {
        let mut taken = self.taken();
        let own = taken.get(&who).copied().unwrap_or_default();
        if own >= SHARE {
            return Err(Error::Busy("requests with files of one caller".to_owned()));
        }
        if taken.values().sum::<usize>() >= PLACES {
            return Err(Error::Busy("requests with files".to_owned()));
        }
        taken.insert(who, own + 1);
        Ok(Place { places: Arc::clone(self), who })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Who, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, until it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    who: Who,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        match taken.get_mut(&self.who) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.remove(&self.who)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_share_of_all() {
        let places = Arc::<Places>::default();
        let of = |number: u128| Who::Root(Uuid::from_u128(number));
        let mut held = Vec::new();
        for number in 0..8 {
            held.extend(
                (0..SHARE).map(|_| places.take(of(number)).unwrap_or_else(|error| panic!("{error}"))),
            );
            assert!(number == 7 || places.take(of(number)).is_err());
        }
        assert!(places.take(of(8)).is_err(), "there are no more");
        held.pop();
        held.extend(places.take(of(8)));
        assert!(places.take(of(7)).is_err() && places.take(of(8)).is_err());
        drop(held);
        assert_eq!(places.taken().len(), 0, "nobody is remembered");
    }

    #[test]
    fn an_owner_has_many_addresses() {
        let of = |text: &str| network(text.parse().unwrap_or_else(|error| panic!("{error}")));
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:2:4:5:6:7"));
        assert_ne!(of("2001:db8:1:2::3"), of("2001:db8:1:3::3"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
