//! What the kernel counts of all TCP connections of this machine.

use std::fs;

use anyhow::{Context, Result};

const PAGE_BYTES: u64 = 4096;

/// Counts since the machine started, and the memory that sockets have now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) listen_overflows: u64,
    pub(crate) retransmits: u64,
    /// Segments that are sent although nothing was lost: they ask for an acknowledgement that is some milliseconds late (RFC 8985, tail loss
    /// probe). The kernel counts nearly all of them as retransmitted, too.
    pub(crate) loss_probes: u64,
    pub(crate) socket_bytes: u64,
}

/// Reads them.
pub(crate) fn read() -> Result<Counts> {
    let netstat = fs::read_to_string("/proc/net/netstat")?;
    let snmp = fs::read_to_string("/proc/net/snmp")?;
    let sockets = fs::read_to_string("/proc/net/sockstat")?;
    let pages = sockets
        .lines()
        .filter(|line| line.starts_with("TCP:"))
        .find_map(|line| line.rsplit_once("mem "))
        .context("no memory of sockets")?;
    Ok(Counts {
        listen_overflows: value(&netstat, "TcpExt:", "ListenOverflows")?,
        retransmits: value(&snmp, "Tcp:", "RetransSegs")?,
        loss_probes: value(&netstat, "TcpExt:", "TCPLossProbes")?,
        socket_bytes: pages.1.trim().parse::<u64>()? * PAGE_BYTES,
    })
}

/// Finds a value in a file in which a line of names is followed by a line of values.
fn value(text: &str, group: &str, name: &str) -> Result<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let names = lines.next().context("no names")?.split(' ');
    let mut values = lines.next().context("no values")?.split(' ');
    let index = names.into_iter().position(|found| found == name);
    let index = index.with_context(|| format!("no {name}"))?;
    let value = values.nth(index).context("too few values")?;
    Ok(value.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_below_its_name() {
        let text = "A: x y\nA: 1 2\nTcpExt: x y\nTcpExt: 3 4\n";
        assert_eq!(value(text, "TcpExt:", "y").unwrap(), 4);
        assert!(value(text, "TcpExt:", "z").is_err());
    }
}
