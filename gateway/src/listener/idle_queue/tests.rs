use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::listener::connection::PermitKind;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn reserved() -> Arc<ConnectionHandle> {
    Arc::new(ConnectionHandle::new(PEER, PermitKind::Reserved))
}

#[tokio::test]
async fn the_oldest_connection_without_a_request_makes_room() {
    let mut queue = IdleQueue::default();
    let connections = [reserved(), reserved(), reserved()];
    for connection in &connections {
        queue.add_reserved(connection);
    }
    connections[0].begin_request();
    queue.close_oldest().await;
    let ended = connections
        .each_ref()
        .map(|connection| connection.is_aborted());
    assert_eq!(ended, [false, true, false]);
    queue.close_oldest().await;
    assert!(connections[2].is_aborted());
    assert!(queue.connections.is_empty());
}

#[tokio::test]
async fn other_and_ended_connections_are_not_kept() {
    let mut queue = IdleQueue::default();
    for kind in [
        PermitKind::Regular,
        PermitKind::Excess,
        PermitKind::AddressFull,
    ] {
        let other = Arc::new(ConnectionHandle::new(PEER, kind));
        queue.add_reserved(&other);
        assert!(queue.connections.is_empty(), "{kind:?}");
    }
    for _ in 0..1000 {
        queue.add_reserved(&reserved());
    }
    assert_eq!(queue.connections.len(), 1);
    queue.remove_busy();
    assert!(queue.connections.is_empty());
}
