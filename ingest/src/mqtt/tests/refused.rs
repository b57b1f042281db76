//! The broker and the client refuse each other.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use test_support::certificates::{Authority, CertificateFiles, Validity};
use test_support::ports::Port;

use super::*;

const HOST: &str = "localhost";

/// A broker that requires a certificate of its clients at a second port, with TLS.
struct TlsBroker {
    broker: Broker,
    tls_port: Port,
    authority: Authority,
    client: CertificateFiles,
    folder: TempDir,
}

impl TlsBroker {
    async fn start(validity: Validity) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::make(folder.path(), "authority").unwrap();
        let server = authority.issue("server", &[HOST], validity).unwrap();
        let client = authority
            .issue("client", &["client"], Validity::Valid)
            .unwrap();
        let tls_port = Port::reserve().unwrap();
        let lines = format!(
            "listener {} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true",
            tls_port.number(),
            authority.file().display(),
            server.certificate.display(),
            server.key.display(),
        );
        Self {
            broker: Broker::start(&lines).await,
            tls_port,
            authority,
            client,
            folder,
        }
    }
}

fn url_of(scheme: &str, port: u16) -> String {
    format!("{scheme}://{HOST}:{port}")
}

/// Returns settings of a connection with these files.
fn config(url: &str, ca: &Path, client: Option<&CertificateFiles>, more: &[&str]) -> MqttConfig {
    let flag = |name: &str, path: &Path| format!("--mqtt-{name}-file={}", path.display());
    let mut args = vec!["ingest".to_owned(), "--redis-url=redis://h".to_owned()];
    args.push(format!("--mqtt-broker={url}"));
    if url.starts_with("mqtts") {
        args.push(flag("ca", ca));
        if let Some(client) = client {
            args.push(flag("cert", &client.certificate));
            args.push(flag("key", &client.key));
        }
    }
    args.extend(more.iter().map(|&flag| flag.to_owned()));
    Config::try_from_args(args).unwrap().mqtt
}

/// Starts the client, which must fail at its first try, and returns why.
async fn refused(config: &MqttConfig) -> String {
    let client = TestClient::start(config);
    let ended = client.lifecycle.wait(LATE);
    let ended = timeout(LATE, ended).await.expect("it ends");
    let error = format!("{:#}", ended.expect_err("it fails"));
    let probed = probe::check_broker(config)
        .await
        .outcome
        .expect_err("refused");
    let (_, reason) = error
        .split_once(&config.mqtt_broker.to_string())
        .expect("names the broker");
    let probed = format!("{probed:#}");
    assert!(
        probed.ends_with(reason.trim_start_matches(": ")),
        "{error} | {probed}"
    );
    error
}

#[tokio::test]
async fn what_goes_wrong_at_the_first_try_ends_the_process_and_is_named() {
    let server = TlsBroker::start(Validity::Valid).await;
    let ca: PathBuf = server.authority.file();
    let stranger = Authority::make(server.folder.path(), "stranger").unwrap();
    let strange = stranger
        .issue("strange", &["client"], Validity::Valid)
        .unwrap();
    let (tls_port, plain_port) = (server.tls_port.number(), server.broker.port());
    let good = url_of("mqtts", tls_port);
    let client = TestClient::start(&config(&good, &ca, Some(&server.client), &[]));
    client.subscribed().await;
    client.stop().await;
    for (url, ca, client, expected) in [
        (
            url_of("mqtt", tls_port),
            &ca,
            None,
            "give mqtts:// in --mqtt-broker",
        ),
        (
            url_of("mqtts", plain_port),
            &ca,
            Some(&server.client),
            "the server does not speak TLS at this port: give its TLS port, or mqtt://",
        ),
        (
            good.clone(),
            &stranger.file(),
            Some(&server.client),
            "unknown issuer: it is not from an authority in --mqtt-ca-file",
        ),
        (
            good.clone(),
            &ca,
            None,
            "requires a client certificate: give --mqtt-cert-file and --mqtt-key-file",
        ),
        (
            good.clone(),
            &ca,
            Some(&strange),
            "does not accept the client certificate in --mqtt-cert-file",
        ),
        (
            format!("mqtts://127.0.0.1:{tls_port}"),
            &ca,
            Some(&server.client),
            "not for `127.0.0.1`, but for localhost",
        ),
    ] {
        for version in ["--mqtt-version=5", "--mqtt-version=3.1.1"] {
            let error = refused(&config(&url, ca, client, &[version])).await;
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}

#[tokio::test]
async fn an_expired_certificate_is_named() {
    let server = TlsBroker::start(Validity::Expired).await;
    let url = url_of("mqtts", server.tls_port.number());
    let error = refused(&config(
        &url,
        &server.authority.file(),
        Some(&server.client),
        &[],
    ))
    .await;
    assert!(
        error.contains("has expired at 2001-02-03T00:00:00Z"),
        "{error}"
    );
}

#[tokio::test]
async fn a_login_that_is_not_accepted_is_named() {
    let broker = Broker::start("allow_anonymous false").await;
    for version in ["--mqtt-version=5", "--mqtt-version=3.1.1"] {
        let more = [
            version,
            "--mqtt-username=somebody",
            "--mqtt-password=guessed",
        ];
        let error = refused(&broker.config(&more)).await;
        assert!(
            error.contains("does not accept the user name or password"),
            "{error}"
        );
        assert!(error.contains("--mqtt-password"), "{error}");
        assert!(!error.contains("guessed"), "{error}");
    }
}

/// Answers CONNECT with these bytes.
async fn answer(listener: &TcpListener, bytes: &[u8]) {
    let (mut stream, _) = timeout(LATE, listener.accept())
        .await
        .expect("it connects")
        .unwrap();
    assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
    stream.write_all(bytes).await.unwrap();
}

#[tokio::test]
async fn a_login_that_is_refused_later_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_to(&listener, &["--mqtt-version=3.1.1"]);
    // Not authorised: after a broker that was away, and again and again.
    drop(accept_old_subscription(&listener).await);
    client.reaches(ConnectionState::Down).await;
    for _ in 0..2 {
        answer(&listener, &[0x20, 2, 0, 5]).await;
        eventually("the status has the reason", async || {
            client
                .status
                .last_error()
                .is_some_and(|error| error.contains("--mqtt-password"))
        })
        .await;
    }
    client.stop().await;
}

/// Accepts a connection with MQTT 3.1.1.
async fn accept_old_subscription(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = timeout(LATE, listener.accept())
        .await
        .expect("it connects")
        .unwrap();
    for bytes in [&[0x20, 2, 0, 0][..], &[0x90, 3, 0, 1, 1]] {
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        stream.write_all(bytes).await.unwrap();
    }
    stream
}
