//! Attacks by detectors, clients and requests, each with a well-behaved neighbour beside it. The neighbour misses nothing
//! and everything it asks is answered. How long that takes is in the report and fails no test: the machine may be busy.

mod floods;

mod watchers;

mod readers;

mod connections;

mod strangers;

mod redis_full;

mod devices;

mod polling;

mod requests;

mod mixed;
