//! Free ports, each reserved by a lock file, so that two tests that run in parallel never use the same one.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

/// Below the range from which Linux takes the ports of outgoing connections.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port of the loopback interface, reserved until this is dropped, whether a process listens on it or not: a restarted
/// process finds its port free.
#[derive(Debug)]
pub struct Port {
    number: u16,
    // Holding the lock is the reservation.
    _lock: File,
}

impl Port {
    /// Reserves the next port that is not reserved and on which nothing listens.
    pub fn reserve() -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let folder = std::env::temp_dir().join("subtronics-test-ports");
        fs::create_dir_all(&folder).with_context(|| format!("creating `{}`", folder.display()))?;
        // Every process begins at another port, so that two processes seldom try the same ones.
        let start = u32::from(FIRST) + std::process::id().wrapping_mul(97) % u32::from(COUNT);
        for _ in 0..COUNT {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let offset = (start + step) % u32::from(COUNT);
            let number =
                FIRST + u16::try_from(offset).context("the range of ports fits 16 bits")?;
            let path = folder.join(number.to_string());
            let file = OpenOptions::new().create(true).append(true).open(&path);
            // The file belongs to another user or is locked: the port is reserved.
            let Ok(lock) = file else { continue };
            if lock.try_lock().is_err() || TcpListener::bind(("0.0.0.0", number)).is_err() {
                continue;
            }
            return Ok(Self {
                number,
                _lock: lock,
            });
        }
        bail!("no free port between {FIRST} and {}", FIRST + COUNT)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}
