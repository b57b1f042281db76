//! The connection of a WebSocket, plain or over TLS, that one task reads and any task writes.
//!
//! Nothing here waits. Without TLS each call is one of the kernel's. With TLS, what was encrypted and the kernel did not take is kept
//! (at most some 64 KiB) and sent before anything else: then [`SharedStream::try_flush`] must be called when the kernel takes more.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::ServerConnection;
use socket2::SockRef;
use tokio::net::TcpStream;

/// A connection whose both directions are used through a shared reference.
#[derive(Debug)]
pub(crate) enum SharedStream {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(TlsConnection),
}

/// A connection that has completed its TLS handshake.
#[derive(Debug)]
pub(crate) struct TlsConnection {
    tcp: TcpStream,
    // A std mutex: held while bytes are encrypted or decrypted and handed over, which never blocks.
    tls: Mutex<Box<ServerConnection>>,
}

impl SharedStream {
    /// Takes a connection over whose handshake is complete.
    pub(crate) fn tls(tcp: TcpStream, tls: ServerConnection) -> Self {
        Self::Tls(TlsConnection {
            tcp,
            tls: Mutex::new(Box::new(tls)),
        })
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(connection) => &connection.tcp,
        }
    }

    /// Waits until the kernel may have bytes. After [`Self::try_read`] found none.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.tcp().readable().await
    }

    /// Waits until the kernel may take bytes.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.tcp().writable().await
    }

    /// Reads what has arrived. 0 is the end.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_read(buffer),
            Self::Tls(connection) => connection.try_read(buffer),
        }
    }

    /// Accepts bytes to send, perhaps only the first ones.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write(bytes),
            Self::Tls(connection) => connection.try_write(|tls| tls.writer().write(bytes)),
        }
    }

    /// Accepts bytes to send, perhaps only the first ones.
    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write_vectored(slices),
            Self::Tls(connection) => {
                connection.try_write(|tls| tls.writer().write_vectored(slices))
            }
        }
    }

    /// Hands the kernel what was accepted and is kept here.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the kernel does not take all of it. Any other: the connection has failed.
    pub(crate) fn try_flush(&self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(connection) => connection.send(&mut connection.lock()),
        }
    }

    /// Ends the connection in both directions and wakes whoever waits for it.
    pub(crate) fn shut_down(&self) {
        if let Self::Tls(connection) = self {
            let mut tls = connection.lock();
            tls.send_close_notify();
            // Only what the kernel takes at once: the peer may read nothing any more.
            connection.send(&mut tls).ok();
        }
        // It may have ended already.
        SockRef::from(self.tcp()).shutdown(Shutdown::Both).ok();
    }
}

impl TlsConnection {
    fn lock(&self) -> MutexGuard<'_, Box<ServerConnection>> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut tls = self.lock();
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Many peers close the connection without the message of TLS for it. Messages have their own lengths.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            tls.read_tls(&mut Kernel(&self.tcp))?;
            let processed = tls.process_new_packets();
            // An answer of TLS itself, such as an alert. What the kernel does not take leaves with the next bytes.
            if tls.wants_write() {
                self.send(&mut tls).ok();
            }
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    fn try_write(
        &self,
        write: impl FnOnce(&mut ServerConnection) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut tls = self.lock();
        self.send(&mut tls)?;
        let taken = write(&mut tls)?;
        match self.send(&mut tls) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    fn send(&self, tls: &mut ServerConnection) -> io::Result<()> {
        while tls.wants_write() {
            tls.write_tls(&mut Kernel(&self.tcp))?;
        }
        Ok(())
    }
}

/// What the kernel has or takes at once.
struct Kernel<'a>(&'a TcpStream);

impl Read for Kernel<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Kernel<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
