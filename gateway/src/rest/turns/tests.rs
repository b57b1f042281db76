use futures_util::FutureExt;

use super::*;
use crate::client_address::TrustedProxies;

fn address(text: &str) -> ClientAddress {
    let peer = text.parse().expect("an address");
    TrustedProxies::default().client(peer, &axum::http::HeaderMap::new())
}

#[tokio::test]
async fn one_address_never_has_all_turns() {
    let turns = Turns::new(3, 2);
    let (greedy, other) = (address("192.0.2.1"), address("192.0.2.2"));
    let first = turns.wait(greedy).await.expect("a turn");
    let _second = turns.wait(greedy).await.expect("a turn");
    assert!(turns.wait(greedy).now_or_never().is_none(), "a third one");
    let _of_other = turns.wait(other).await.expect("a turn");
    assert!(turns.wait(other).now_or_never().is_none(), "all are taken");
    drop(first);
    assert!(turns.wait(greedy).now_or_never().is_some());
}

#[tokio::test]
async fn addresses_without_a_request_are_forgotten() {
    let turns = Turns::new(3, 2);
    for number in 0..=255 {
        let turn = turns.wait(address(&format!("192.0.2.{number}"))).await;
        drop(turn.expect("a turn"));
    }
    assert!(turns.addresses.lock().expect("not poisoned").is_empty());
}
