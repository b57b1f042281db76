//! Who is counted.

use std::fmt;

use crate::client_address::ClientAddress;

/// Whose connections and requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// All clients of one network address.
    Address(ClientAddress),
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
        }
    }
}
