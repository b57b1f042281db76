//! Decides who may open a session or send a request now: the limits per caller, and those of all handshakes together.
//!
//! Each can be tried out (`--limits-dry-run`). Then what exceeds it is counted exactly as if it were refused, and admitted.

pub(crate) mod caller;
pub(crate) mod connections;
pub(crate) mod enforcement;
mod handshakes;
pub(crate) mod limit;
pub(crate) mod limit_metrics;
pub(crate) mod limited;
pub(crate) mod signature_checks;
pub(crate) mod usage;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Config;
use caller::Caller;
use connections::{CallerPlace, Connections};
use enforcement::Enforcement;
use handshakes::Handshakes;
use limit::Limit;
use limit_metrics::LimitMetrics;
use limited::Limited;
use signature_checks::{Payer, SignatureChecks};
use usage::{MAX_CALLERS, Rate, Usages, must_wait};

/// How long a client should wait that has as many sessions as it may have: nobody knows when one ends.
const UNTIL_A_SESSION_ENDS: Duration = Duration::from_secs(10);

/// The part of its request rate that a caller can use only to acknowledge alarms.
const KEPT_FOR_ACKNOWLEDGEMENTS: f64 = 0.1;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Acknowledge,
    Other,
}

/// The limits. Clones share what they count.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    enforcement: Enforcement,
    sessions: Connections,
    connections: Connections,
    of_subjects: Connections,
    /// Makes callers of subjects, so that nobody can choose two with one hash.
    hasher: RandomState,
    request_rate: Option<Rate>,
    signature_checks: SignatureChecks,
    // Std mutexes: held for one decision, never across an await.
    handshakes: Mutex<Handshakes<Caller>>,
    tls_handshakes: Mutex<Handshakes<Caller>>,
    requests: Mutex<Usages<Caller>>,
}

impl Admission {
    pub(crate) fn new(config: &Config, metrics: &Arc<LimitMetrics>, now: Instant) -> Self {
        let handshakes = || {
            Mutex::new(Handshakes::new(
                Rate::new(config.handshake_rate_per_address),
                Rate::new(config.handshake_rate),
                MAX_CALLERS,
                now,
            ))
        };
        let enforcement = Enforcement::new(&config.limits_dry_run, Arc::clone(metrics));
        let wrong_signatures = config.wrong_signature_rate;
        Self {
            shared: Arc::new(Shared {
                signature_checks: SignatureChecks::new(wrong_signatures, enforcement.clone()),
                enforcement,
                sessions: Connections::new(config.max_connections_per_address),
                connections: Connections::new(config.max_tcp_connections_per_address),
                of_subjects: Connections::new(config.max_connections_per_subject),
                hasher: RandomState::new(),
                request_rate: Rate::new(config.request_rate),
                handshakes: handshakes(),
                tls_handshakes: handshakes(),
                requests: Mutex::new(Usages::new(MAX_CALLERS)),
            }),
        }
    }

    /// Returns what happens to those that exceed a limit, for the limits of other parts.
    pub(crate) fn enforcement(&self) -> &Enforcement {
        &self.shared.enforcement
    }

    /// Counts a new TCP connection of this caller, whatever it is for; `None` if it must be refused.
    pub(crate) fn open_connection(&self, caller: Caller) -> Option<CallerPlace> {
        let place = self.shared.connections.take(caller);
        let limit = Limit::MaxTcpConnectionsPerAddress;
        if place.is_none() && self.shared.enforcement.refuses(limit, Some(caller)) {
            return None;
        }
        Some(place.unwrap_or_else(CallerPlace::uncounted))
    }

    /// Returns who pays for the checks of a token that this caller shows.
    pub(crate) fn payer(&self, caller: Caller) -> Payer<'_> {
        self.shared.signature_checks.payer(caller)
    }

    /// Returns the caller of a subject.
    pub(crate) fn subject(&self, subject: &str) -> Caller {
        Caller::Subject(self.shared.hasher.hash_one(subject))
    }

    /// Counts a client that has shown a token of this subject; `None` if it must be refused.
    pub(crate) fn join(&self, subject: &str) -> Option<CallerPlace> {
        let caller = self.subject(subject);
        let place = self.shared.of_subjects.take(caller);
        let limit = Limit::MaxConnectionsPerSubject;
        if place.is_none() && self.shared.enforcement.refuses(limit, Some(caller)) {
            return None;
        }
        Some(place.unwrap_or_else(CallerPlace::uncounted))
    }

    /// Counts a new session of this caller.
    ///
    /// # Errors
    /// The caller must be refused.
    pub(crate) fn open_session(
        &self,
        caller: Caller,
        now: Instant,
    ) -> Result<CallerPlace, Limited> {
        let place = self.shared.sessions.take(caller);
        if place.is_none() {
            let limit = Limit::MaxConnectionsPerAddress;
            self.exceed(limit, caller, UNTIL_A_SESSION_ENDS)?;
        }
        self.count_handshake(&self.shared.handshakes, caller, now)?;
        Ok(place.unwrap_or_else(CallerPlace::uncounted))
    }

    /// Counts a TLS handshake of this caller: its signature costs more than whatever is asked for afterwards.
    ///
    /// # Errors
    /// The connection must be closed.
    pub(crate) fn begin_tls(&self, caller: Caller, now: Instant) -> Result<(), Limited> {
        self.count_handshake(&self.shared.tls_handshakes, caller, now)
    }

    fn count_handshake(
        &self,
        handshakes: &Mutex<Handshakes<Caller>>,
        caller: Caller,
        now: Instant,
    ) -> Result<(), Limited> {
        let mut handshakes = handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        let excess = handshakes.excess(caller, now);
        if let Some(wait) = excess.of_caller {
            self.exceed(Limit::HandshakeRatePerAddress, caller, wait)?;
        }
        if let Some(wait) = excess.of_all {
            self.exceed(Limit::HandshakeRate, caller, wait)?;
        }
        handshakes.add(caller, excess, now);
        Ok(())
    }

    /// Counts a request of this caller, which costs so much.
    ///
    /// # Errors
    /// The caller must be refused.
    pub(crate) fn begin_request(
        &self,
        caller: Caller,
        cost: u32,
        purpose: Purpose,
        now: Instant,
    ) -> Result<(), Limited> {
        let Some(rate) = self.shared.request_rate else {
            return Ok(());
        };
        let bound = match purpose {
            Purpose::Acknowledge => rate.burst,
            Purpose::Other => rate.burst * (1.0 - KEPT_FOR_ACKNOWLEDGEMENTS),
        };
        // With a small rate too, every request is possible.
        let cost = f64::from(cost).min(bound / 2.0);
        let requests = self.shared.requests.lock();
        let mut requests = requests.unwrap_or_else(PoisonError::into_inner);
        if let Some(wait) = must_wait(requests.of(caller, now), cost, bound) {
            return self.exceed(Limit::RequestRate, caller, wait);
        }
        requests.add(caller, cost, now);
        Ok(())
    }

    /// Counts what exceeds a limit. An error if it is refused.
    fn exceed(&self, limit: Limit, caller: Caller, wait: Duration) -> Result<(), Limited> {
        if self.shared.enforcement.refuses(limit, Some(caller)) {
            return Err(Limited::new(limit, wait));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
