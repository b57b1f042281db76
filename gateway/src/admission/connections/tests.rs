use super::*;
use crate::client_address::ClientAddress;

fn caller(last: u8) -> Caller {
    Caller::Address(ClientAddress::new([192, 0, 2, last].into()))
}

#[test]
fn each_caller_has_so_many_sessions_until_they_end() {
    let connections = Connections::new(2);
    let first = connections.take(caller(1)).unwrap();
    let second = connections.take(caller(1)).unwrap();
    assert!(connections.take(caller(1)).is_none());
    let other = connections.take(caller(2)).unwrap();
    drop(first);
    let third = connections.take(caller(1)).unwrap();
    assert!(connections.take(caller(1)).is_none());
    drop((second, third, other));
    assert!(connections.held().is_empty());
}

#[test]
fn a_caller_that_is_refused_first_leaves_nothing_behind() {
    let connections = Connections::new(1);
    drop(connections.take(caller(1)).unwrap());
    drop(CallerPlace::uncounted());
    assert!(connections.held().is_empty());
}

#[test]
fn zero_is_no_limit() {
    let connections = Connections::new(0);
    let places: Vec<_> = (0..100)
        .map(|_| connections.take(caller(1)).unwrap())
        .collect();
    assert!(connections.held().is_empty());
    drop(places);
}
