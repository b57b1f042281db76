//! The limits of this service that can be tried out. Each is named after its setting.

/// All limits in a list of settings.
pub(crate) const ALL: &str = "all";

/// A limit that refuses clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    MaxConnections,
    MaxTcpConnectionsPerAddress,
    MaxConnectionsPerAddress,
    MaxConnectionsPerSubject,
    HandshakeRatePerAddress,
    HandshakeRate,
    RequestRate,
    WrongSignatureRate,
    PacketRate,
    SubscriptionsPerClient,
    MaxWatched,
    WatchedPerAddress,
    MaxUnlisted,
}

impl Limit {
    /// Every limit, in the order of [`Self::CODES`].
    pub(super) const ALL: [Self; 13] = [
        Self::MaxConnections,
        Self::MaxTcpConnectionsPerAddress,
        Self::MaxConnectionsPerAddress,
        Self::MaxConnectionsPerSubject,
        Self::HandshakeRatePerAddress,
        Self::HandshakeRate,
        Self::RequestRate,
        Self::WrongSignatureRate,
        Self::PacketRate,
        Self::SubscriptionsPerClient,
        Self::MaxWatched,
        Self::WatchedPerAddress,
        Self::MaxUnlisted,
    ];

    /// Every code.
    pub(crate) const CODES: [&'static str; 13] = [
        "max_connections",
        "max_tcp_connections_per_address",
        "max_connections_per_address",
        "max_connections_per_subject",
        "handshake_rate_per_address",
        "handshake_rate",
        "request_rate",
        "wrong_signature_rate",
        "packet_rate",
        "subscriptions_per_client",
        "max_watched",
        "watched_per_address",
        "max_unlisted",
    ];

    /// Every setting, without the leading dashes.
    pub(crate) const SETTINGS: [&'static str; 13] = [
        "max-connections",
        "max-tcp-connections-per-address",
        "max-connections-per-address",
        "max-connections-per-subject",
        "handshake-rate-per-address",
        "handshake-rate",
        "request-rate",
        "wrong-signature-rate",
        "packet-rate",
        "subscriptions-per-client",
        "max-watched",
        "watched-per-address",
        "max-unlisted",
    ];

    /// Returns the code for metrics and logs.
    pub(crate) const fn code(self) -> &'static str {
        Self::CODES[self as usize]
    }

    /// Finds the limit of a setting.
    pub(super) fn of_setting(setting: &str) -> Option<Self> {
        let all = Self::ALL.into_iter().zip(Self::SETTINGS);
        let mut found = all.filter(|(_, known)| *known == setting);
        found.next().map(|(limit, _)| limit)
    }
}

#[cfg(test)]
mod tests;
