//! Who is counted.

use std::fmt;

use crate::client_address::ClientAddress;

/// Whose connections and requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// All clients of one network address.
    Address(ClientAddress),
    /// All clients whose tokens have one subject, by its hash: a subject is a text, and there may be many.
    Subject(u64),
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Subject(hash) => write!(f, "subject {hash:016x}"),
        }
    }
}
