//! Connection IDs that say who issued them, so that a datagram reaches the process and the endpoint that has its connection,
//! whichever socket it came in by.
//!
//! An issued ID is [`LENGTH`] bytes long: the generation of the process, the number of the endpoint in it, and random
//! bytes. It is shorter than the eight bytes that an ID must have that a client makes up for its first packets (RFC 9000
//! §7.2), so the two cannot be mistaken for each other. Nothing in it tells one connection of an endpoint from another.

use quinn::{ConnectionId, ConnectionIdGenerator};

/// Bytes of an issued ID.
pub(crate) const LENGTH: usize = 7;

/// The ID that a datagram is addressed to, where a client made it up for its first packets.
pub(crate) fn made_up(datagram: &[u8]) -> Option<&[u8]> {
    match datagram {
        [flags, _, _, _, _, length @ 8..=20, id @ ..] if flags & LONG_HEADER != 0 => {
            id.get(..usize::from(*length))
        }
        _ => None,
    }
}

/// The first bit of a long header (RFC 8999 §5.1).
const LONG_HEADER: u8 = 0x80;

/// Who issued an ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Issuer {
    /// Counts the processes that took over from each other, and begins again after 255.
    pub(crate) generation: u8,
    /// Counts the endpoints of a process that share an address.
    pub(crate) endpoint: u8,
}

impl Issuer {
    /// Who issued the ID that a datagram is addressed to; `None` when a client made it up (RFC 8999 §5).
    pub(crate) fn of(datagram: &[u8]) -> Option<Self> {
        let id = match datagram {
            // Five bytes of flags and version, then the ID's length.
            [flags, _, _, _, _, length, id @ ..] if flags & LONG_HEADER != 0 => {
                id.get(..LENGTH).filter(|_| usize::from(*length) == LENGTH)
            }
            [flags, id @ ..] if flags & LONG_HEADER == 0 => id.get(..LENGTH),
            _ => None,
        };
        match id {
            Some([generation, endpoint, ..]) => Some(Self { generation: *generation, endpoint: *endpoint }),
            Some(_) | None => None,
        }
    }
}

impl ConnectionIdGenerator for Issuer {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id: [u8; LENGTH] = rand::random();
        (id[0], id[1]) = (self.generation, self.endpoint);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn datagrams_are_addressed_to_the_issuer(generation: u8, endpoint: u8, version: u32, rest in ".{0,40}") {
            let mut issuer = Issuer { generation, endpoint };
            let id = issuer.generate_cid();
            let short = [&[0x40][..], &id, rest.as_bytes()].concat();
            prop_assert_eq!(Issuer::of(&short), Some(issuer));
            let long = [&[0xc0][..], &version.to_be_bytes(), &[LENGTH as u8], &id, rest.as_bytes()].concat();
            prop_assert_eq!(Issuer::of(&long), Some(issuer));
            prop_assert_eq!(Issuer::of(&long[..LENGTH]), None);
            prop_assert_eq!((made_up(&short), made_up(&long)), (None, None));
        }

        #[test]
        fn clients_own_ids_are_nobodys(id in proptest::collection::vec(any::<u8>(), 8..=20), rest in ".{0,40}") {
            let initial = [&[0xc3, 0, 0, 0, 1, id.len() as u8][..], &id, rest.as_bytes()].concat();
            prop_assert_eq!(Issuer::of(&initial), None);
            prop_assert_eq!(made_up(&initial), Some(&id[..]));
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (Issuer::of(&bytes), made_up(&bytes));
        }
    }
}
