use shared::clock::SystemClock;
use shared::metrics::Meters;
use socketioxide::socket::Sid;
use test_support::eventually::LATE;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::*;
use crate::access::identity::{Identity, TokenFacts};
use crate::access::permission::Permission;
use crate::client::ClientContext;
use crate::client::link::Link;
use crate::clients::Clients;
use crate::metrics::Metrics;
use crate::test_setup;
use crate::websocket::writer::tests::pair;

/// Notice 60 s before, grace 30 s after.
fn expiry() -> TokenExpiry {
    let config = test_setup::config("127.0.0.1:1", &[]);
    TokenExpiry::new(&config.tokens, Arc::new(SystemClock::default()))
}

fn second(seconds: i64) -> Time {
    Time::from_millis(seconds * 1000)
}

fn expiring_at(seconds: i64) -> Arc<Identity> {
    let token = TokenFacts {
        id: None,
        subject: "user-1".into(),
        name: None,
        expires: second(seconds),
    };
    Arc::new(Identity::of_token(token, Permission::default()))
}

async fn client(identity: Arc<Identity>) -> (Arc<Client>, TcpStream) {
    let config = test_setup::config("127.0.0.1:1", &[]);
    let metrics = Metrics::new(&Meters::local("gateway").unwrap());
    let clients = Clients::new(ClientContext::new(&config, Arc::clone(&metrics.client)));
    let (writer, peer) = pair().await;
    let client = clients.create(
        Sid::new(),
        Link::WebSocket(Arc::new(writer)),
        test_setup::admitted(identity),
    );
    (client, peer)
}

/// Reads one frame with this text.
async fn is_sent(peer: &mut TcpStream, text: &str) {
    let mut received = vec![0; 2 + text.len()];
    let read = tokio::time::timeout(LATE, peer.read_exact(&mut received));
    read.await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&received[2..]), text);
}

fn is_closed(client: &Client) -> bool {
    client.closed().is_cancelled()
}

#[tokio::test]
async fn a_client_gets_one_notice_and_is_closed_after_the_grace() {
    let expiry = expiry();
    let (client, mut peer) = client(expiring_at(1000)).await;
    expiry.watch(&client);
    expiry.act(second(939));
    expiry.act(second(940));
    expiry.act(second(941));
    is_sent(
        &mut peer,
        r#"42["auth:expiring",{"expiresInMs":60000,"closesInMs":90000}]"#,
    )
    .await;
    expiry.act(second(1029));
    assert!(!is_closed(&client));
    expiry.act(second(1030));
    assert!(is_closed(&client));
    // Nothing but the one event was sent.
    let mut rest = Vec::new();
    let read = tokio::time::timeout(LATE, peer.read_to_end(&mut rest));
    drop(client);
    read.await.unwrap().ok();
    assert!(rest.is_empty(), "{rest:?}");
    assert!(expiry.due().is_empty());
}

#[tokio::test]
async fn a_new_token_counts_from_then_on() {
    let expiry = expiry();
    let (client, mut peer) = client(expiring_at(1000)).await;
    expiry.watch(&client);
    expiry.act(second(950));
    is_sent(
        &mut peer,
        r#"42["auth:expiring",{"expiresInMs":50000,"closesInMs":80000}]"#,
    )
    .await;
    expiry.forget(&client);
    client.set_identity(expiring_at(2000));
    expiry.watch(&client);
    expiry.act(second(1939));
    assert!(!is_closed(&client));
    assert_eq!(expiry.due().len(), 1);
    expiry.act(second(1940));
    is_sent(
        &mut peer,
        r#"42["auth:expiring",{"expiresInMs":60000,"closesInMs":90000}]"#,
    )
    .await;
    expiry.act(second(2030));
    assert!(is_closed(&client));
}

#[tokio::test]
async fn who_has_no_token_stays() {
    let expiry = expiry();
    let (client, _peer) = client(test_setup::anyone().identity).await;
    expiry.watch(&client);
    expiry.act(Time::from_millis(i64::MAX));
    assert!(!is_closed(&client));
}

#[tokio::test]
async fn a_client_that_has_left_is_forgotten() {
    let expiry = expiry();
    let (client, _peer) = client(expiring_at(1000)).await;
    for told_before in [false, true] {
        expiry.watch(&client);
        if told_before {
            expiry.act(second(950));
        }
        assert_eq!(expiry.due().len(), 1);
        expiry.forget(&client);
        assert!(expiry.due().is_empty());
    }
}
