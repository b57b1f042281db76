//! Attacks by detectors and clients, each with a well-behaved one beside it.

mod devices;
