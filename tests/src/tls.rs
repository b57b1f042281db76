//! A stack whose connections all use TLS: Redis and the broker require a certificate of their clients, the gateway serves HTTPS.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use shared::tls::{ClientStream, ClientTls, TlsFiles, TlsSettings};
use tempfile::TempDir;
use test_support::certificates::{Authority, CertificateFiles, Validity};
use tokio::net::{TcpSocket, TcpStream};

use crate::ports::Port;
use crate::stack::{HOST, Plan};

/// The names of the settings in errors of the tests' own connections.
const SETTINGS: TlsSettings = TlsSettings {
    ca_file: "authority",
    cert_file: "certificate",
    key_file: "key",
    address: "address",
    tls_scheme: "https://",
    plain_scheme: "http://",
};

/// The certificates and the ports.
#[derive(Debug)]
pub struct TlsSetup {
    /// Issues all certificates.
    pub authority: Authority,
    /// That of Redis and the broker.
    pub server: CertificateFiles,
    /// That of the services as clients.
    pub client: CertificateFiles,
    /// That of the gateway as a server.
    pub gateway: CertificateFiles,
    redis: Port,
    broker: Port,
    folder: TempDir,
}

impl TlsSetup {
    /// Makes the certificates and reserves the ports.
    pub fn make() -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for certificates")?;
        let authority = Authority::make(folder.path(), "authority")?;
        let issue = |name: &str| authority.issue(name, &[HOST], Validity::Valid);
        Ok(Self {
            server: issue("server")?,
            client: issue("client")?,
            gateway: issue("gateway")?,
            authority,
            redis: Port::reserve()?,
            broker: Port::reserve()?,
            folder,
        })
    }

    /// Returns a plan whose services use TLS for everything but probes. The tests' own connections to Redis and the broker do not.
    pub fn plan(&self) -> Plan {
        let services = |name: &str| {
            format!(
                "--{name}-ca-file={} --{name}-cert-file={} --{name}-key-file={}",
                self.authority.file().display(),
                self.client.certificate.display(),
                self.client.key.display()
            )
        };
        let gateway = format!(
            "{} --tls-cert-file={} --tls-key-file={}",
            services("redis"),
            self.gateway.certificate.display(),
            self.gateway.key.display()
        );
        Plan::default()
            .redis_flags(&self.redis_flags())
            .broker_line(&self.broker_lines())
            .over_tls(self.redis.number(), self.broker.number())
            .operator_port()
            .ingest_flags(&format!("{} {}", services("redis"), services("mqtt")))
            .gateway_flags(&gateway)
    }

    /// Returns the flags of a Redis with a second port, for TLS.
    pub fn redis_flags(&self) -> String {
        format!(
            "--tls-port {} --tls-cert-file {} --tls-key-file {} --tls-ca-cert-file {} --tls-auth-clients yes",
            self.redis.number(),
            self.server.certificate.display(),
            self.server.key.display(),
            self.authority.file().display()
        )
    }

    /// Returns the lines of a broker with a second port, for TLS.
    pub fn broker_lines(&self) -> String {
        format!(
            "listener {} 127.0.0.1\ncertfile {}\nkeyfile {}\ncafile {}\nrequire_certificate true",
            self.broker.number(),
            self.server.certificate.display(),
            self.server.key.display(),
            self.authority.file().display()
        )
    }

    /// Returns the port of Redis that speaks TLS.
    pub fn redis_port(&self) -> u16 {
        self.redis.number()
    }

    /// Returns the port of the broker that speaks TLS.
    pub fn broker_port(&self) -> u16 {
        self.broker.number()
    }

    /// Makes an authority that nobody trusts.
    pub fn stranger(&self) -> Result<PathBuf> {
        Ok(Authority::make(self.folder.path(), "stranger")?.file())
    }

    /// Connects to a port of the loopback interface, as a client that trusts the authority.
    pub async fn connect(&self, port: u16) -> Result<ClientStream> {
        connect(port, &self.authority.file()).await
    }

    /// As [`Self::connect`], from this address.
    pub async fn connect_from(&self, address: Ipv4Addr, port: u16) -> Result<ClientStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((address, 0).into())?;
        let tcp = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
        secure(tcp, &self.authority.file()).await
    }
}

/// Connects to a port of the loopback interface, as a client that trusts the authority in this file.
pub async fn connect(port: u16, authority: &Path) -> Result<ClientStream> {
    let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    secure(tcp, authority).await
}

async fn secure(tcp: TcpStream, authority: &Path) -> Result<ClientStream> {
    let files = TlsFiles {
        authorities: Some(authority.to_owned()),
        ..TlsFiles::default()
    };
    let tls = ClientTls::new(files, &SETTINGS);
    Ok(ClientStream::secure(tcp, HOST, &tls).await?)
}
