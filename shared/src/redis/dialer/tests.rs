use std::path::PathBuf;

use tempfile::TempDir;
use test_support::certificates::{Authority, CertificateFiles, Validity};
use test_support::ports::Port;
use test_support::server::OwnRedis;

use super::*;

const HOST: &str = "localhost";
const PASSWORD: &str = "right";

/// A Redis with a password, which speaks TLS at a second port and requires a certificate of its clients there.
struct TlsRedis {
    redis: OwnRedis,
    tls_port: Port,
    authority: Authority,
    client: CertificateFiles,
    folder: TempDir,
}

impl TlsRedis {
    async fn start(subjects: &[&str], validity: Validity) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::make(folder.path(), "authority").unwrap();
        let server = authority.issue("server", subjects, validity).unwrap();
        let client = authority
            .issue("client", &["client"], Validity::Valid)
            .unwrap();
        let tls_port = Port::reserve().unwrap();
        let port = tls_port.number().to_string();
        let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
        let (certificate, key) = (text(&server.certificate), text(&server.key));
        let ca = text(&authority.file());
        let flags = [
            "--tls-port",
            &port,
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "yes",
            "--requirepass",
            PASSWORD,
        ];
        let redis = OwnRedis::start(&flags).await;
        Self {
            redis,
            tls_port,
            authority,
            client,
            folder,
        }
    }

    /// A configuration for its TLS port, with a password.
    fn config(&self) -> RedisConfig {
        RedisConfig {
            redis_ca_file: Some(self.authority.file()),
            redis_cert_file: Some(self.client.certificate.clone()),
            redis_key_file: Some(self.client.key.clone()),
            ..RedisConfig::at(&self.url("rediss", PASSWORD, true))
        }
    }

    fn url(&self, scheme: &str, password: &str, at_tls_port: bool) -> String {
        let port = if at_tls_port {
            self.tls_port.number()
        } else {
            self.redis.server.port()
        };
        format!("{scheme}://:{password}@{HOST}:{port}")
    }
}

/// Returns why both kinds of connections are refused: the short reason, and the advice.
async fn refused(config: &RedisConfig) -> (&'static str, String) {
    let dialer = Dialer::new(config);
    let limit = config.redis_timeout;
    let pushes = super::super::PushConnection::open(&dialer, limit, "channel");
    let (commands, pushes) = tokio::join!(dialer.commands(), pushes);
    let of = |error: Option<ConnectError>| match error {
        Some(ConnectError::Rejected { reason, advice }) => (reason, advice),
        other => panic!("{other:?}"),
    };
    let [commands, pushes] = [commands.map(drop).err(), pushes.err()].map(of);
    assert_eq!(commands, pushes);
    commands
}

#[tokio::test]
async fn what_goes_wrong_is_named_with_the_setting_to_look_at() {
    let server = TlsRedis::start(&[HOST], Validity::Valid).await;
    let config = server.config();
    Dialer::new(&config).commands().await.expect("a connection");
    super::super::PushConnection::open(&Dialer::new(&config), config.redis_timeout, "channel")
        .await
        .expect("a subscription");
    let at = |scheme: &str, password: &str, at_tls_port: bool| {
        let url = server.url(scheme, password, at_tls_port);
        let parsed = url.parse().expect("a URL");
        RedisConfig {
            redis_url: Some(parsed),
            ..config.clone()
        }
    };
    let stranger = Authority::make(server.folder.path(), "stranger").unwrap();
    let strange = stranger
        .issue("strange", &["client"], Validity::Valid)
        .unwrap();
    for (given, reason, advice) in [
        (at("rediss", "wrong", true), "WRONGPASS", "--redis-url-file"),
        (
            RedisConfig::at(&server.url("redis", "wrong", false)),
            "WRONGPASS",
            "--redis-url",
        ),
        (
            RedisConfig::at(&format!("redis://{}", server.redis.address())),
            "NOAUTH",
            "redis://user:password@host",
        ),
        (
            RedisConfig::at(&server.url("redis", PASSWORD, true)),
            "TLS: the server speaks it",
            "rediss://",
        ),
        (
            RedisConfig {
                // It says nothing, so twice this is waited for. In this time it must answer to a question without TLS.
                redis_timeout: Duration::from_secs(2),
                ..at("rediss", PASSWORD, false)
            },
            "TLS: the server does not speak it",
            "redis://",
        ),
        (
            RedisConfig {
                redis_ca_file: Some(stranger.file()),
                ..config.clone()
            },
            "unknown issuer",
            "--redis-ca-file",
        ),
        (
            RedisConfig {
                redis_cert_file: None,
                redis_key_file: None,
                ..config.clone()
            },
            "requires a client certificate",
            "--redis-cert-file and --redis-key-file",
        ),
        (
            RedisConfig {
                redis_cert_file: Some(strange.certificate),
                redis_key_file: Some(strange.key),
                ..config.clone()
            },
            "does not accept our client certificate",
            "--redis-cert-file",
        ),
        (
            RedisConfig {
                redis_url: Some(
                    format!("rediss://127.0.0.1:{}", server.tls_port.number())
                        .parse()
                        .unwrap(),
                ),
                ..config.clone()
            },
            "for another name",
            "not for `127.0.0.1`, but for localhost",
        ),
    ] {
        let found = refused(&given).await;
        assert!(found.0.contains(reason), "{reason}: {found:?}");
        assert!(found.1.contains(advice), "{reason}: {found:?}");
        assert!(!found.1.contains(PASSWORD), "{found:?}");
    }
}

#[tokio::test]
async fn a_certificate_outside_of_its_time_is_refused() {
    for (validity, reason, advice) in [
        (Validity::Expired, "has expired", "at 2001-02-03T00:00:00Z"),
        (Validity::NotYet, "is not valid yet", "clock"),
    ] {
        let server = TlsRedis::start(&[HOST], validity).await;
        let found = refused(&server.config()).await;
        assert!(found.0.contains(reason), "{found:?}");
        assert!(found.1.contains(advice), "{found:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_not_refused() {
    let port = Port::reserve().unwrap();
    for scheme in ["redis", "rediss"] {
        let config = RedisConfig::at(&format!("{scheme}://{HOST}:{}", port.number()));
        let error = Dialer::new(&config)
            .commands()
            .await
            .expect_err("nobody listens");
        assert!(matches!(error, ConnectError::Unavailable(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_closes_connections_without_a_word_is_not_refused() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let closing = async {
        loop {
            drop(listener.accept().await.unwrap());
        }
    };
    let asking = async {
        for scheme in ["redis", "rediss"] {
            let config = RedisConfig::at(&format!("{scheme}://127.0.0.1:{port}"));
            let error = Dialer::new(&config).commands().await.expect_err("closed");
            assert!(matches!(error, ConnectError::Unavailable(_)), "{error:?}");
        }
    };
    tokio::select! {
        () = closing => {}
        () = asking => {}
    }
}
