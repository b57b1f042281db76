//! Attacks by detectors, clients and requests, each with a well-behaved neighbour beside it.

mod redis_full;
