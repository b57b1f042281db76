use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use shared::tls::{read_certificates, read_key};
use test_support::certificates::{Authority, Validity};
use test_support::eventually::LATE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

/// The two ends of a connection over TLS.
pub(crate) async fn tls_pair() -> (SharedStream, TlsStream<TcpStream>) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::make(folder.path(), "authority").unwrap();
    let files = authority
        .issue("server", &["localhost"], Validity::Valid)
        .unwrap();
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    let trusted = read_certificates("authority", &authority.file()).unwrap();
    roots.add_parsable_certificates(trusted);
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            read_certificates("certificate", &files.certificate).unwrap(),
            read_key("key", &files.key).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let (accepted, peer) = tokio::join!(
        TlsAcceptor::from(Arc::new(server)).accept(accepted),
        TlsConnector::from(Arc::new(client)).connect(name, peer),
    );
    let (tcp, tls) = accepted.unwrap().into_inner();
    (SharedStream::tls(tcp, tls), peer.unwrap())
}

/// Reads until this many bytes have arrived, or the end.
async fn read(stream: &SharedStream, count: usize) -> Vec<u8> {
    let mut received = Vec::new();
    let reading = async {
        while received.len() < count {
            let mut buffer = [0; 100];
            match stream.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => received.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.readable().await.unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    timeout(LATE, reading).await.unwrap();
    received
}

#[tokio::test]
async fn what_the_peer_sends_is_read_up_to_its_end() {
    for ends_properly in [true, false] {
        let (stream, mut peer) = tls_pair().await;
        let sent: Vec<u8> = (0..10_000_u32).flat_map(u32::to_be_bytes).collect();
        let sending = async {
            peer.write_all(&sent).await.unwrap();
            peer.flush().await.unwrap();
            if ends_properly {
                peer.shutdown().await.unwrap();
            } else {
                peer.get_mut().0.shutdown().await.unwrap();
            }
        };
        let (received, ()) = tokio::join!(read(&stream, usize::MAX), sending);
        assert!(received == sent);
    }
}

#[tokio::test]
async fn what_is_accepted_arrives_whole_and_the_end_is_seen() {
    let (stream, mut peer) = tls_pair().await;
    let bytes: Vec<u8> = (0..5_000_000_u32)
        .map(|number| number.to_be_bytes()[3])
        .collect();
    let sending = async {
        let mut sent = 0;
        while sent < bytes.len() {
            match stream.try_write(&bytes[sent..]) {
                Ok(taken) => sent += taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.writable().await.unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
        while let Err(error) = stream.try_flush() {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            stream.writable().await.unwrap();
        }
        stream.shut_down();
    };
    let mut received = Vec::new();
    let (read, ()) = timeout(LATE, async {
        tokio::join!(peer.read_to_end(&mut received), sending)
    })
    .await
    .unwrap();
    // Not merely cut off, which would be an error.
    read.unwrap();
    assert!(received == bytes);
}

#[tokio::test]
async fn bytes_that_are_no_tls_are_an_error() {
    let (stream, mut peer) = tls_pair().await;
    let (tcp, _) = peer.get_mut();
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let failed = async {
        loop {
            match stream.try_read(&mut [0; 10]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.readable().await.unwrap();
                }
                read => break read,
            }
        }
    };
    let error = timeout(LATE, failed).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}
