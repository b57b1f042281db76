use ConnectionEvent::{
    ConnAck, Decided, Disconnected, Lost, Message, RequestQueued, StopRequested, Stopped, SubAck,
    TakenOver, UnsubAck,
};

use super::*;

const STOP: ConnectionEvent = StopRequested {
    in_share_group: false,
};
const STOP_MEMBER: ConnectionEvent = StopRequested {
    in_share_group: true,
};
const REMOVE: ConnectionEvent = Decided {
    session: SessionAtExit::Remove,
    filters: 2,
};
const KEEP: ConnectionEvent = Decided {
    session: SessionAtExit::Keep,
    filters: 2,
};
const ACCEPTED: ConnectionEvent = UnsubAck { accepted: true };
const REFUSED: ConnectionEvent = UnsubAck { accepted: false };

fn after(events: &[ConnectionEvent]) -> ConnectionState {
    events
        .iter()
        .fold(ConnectionState::Connecting, |state, event| {
            state.after(*event)
        })
}

/// A member of a share group that left it: both subscriptions are ended.
fn left() -> ConnectionState {
    let events = [
        ConnAck,
        SubAck,
        STOP_MEMBER,
        REMOVE,
        RequestQueued,
        ACCEPTED,
        RequestQueued,
        ACCEPTED,
    ];
    after(&events)
}

#[test]
fn a_lost_connection_is_down_until_the_next_connack() {
    assert_eq!(after(&[Lost]), ConnectionState::Down);
    assert_eq!(after(&[ConnAck, Lost]), ConnectionState::Down);
    assert_eq!(after(&[ConnAck, SubAck, Lost]), ConnectionState::Down);
    assert_eq!(
        after(&[ConnAck, SubAck, Lost, ConnAck, SubAck]),
        ConnectionState::Subscribed
    );
    assert_eq!(
        after(&[ConnAck, SubAck, TakenOver]),
        ConnectionState::TakenOver
    );
    let retried = [ConnAck, SubAck, TakenOver, ConnAck, SubAck];
    assert_eq!(after(&retried), ConnectionState::Subscribed);
    assert_eq!(
        after(&[ConnAck, SubAck, TakenOver, Lost]),
        ConnectionState::Down
    );
}

#[test]
fn a_stop_without_a_connection_ends_at_once() {
    for before in [&[][..], &[Lost], &[ConnAck, SubAck, TakenOver]] {
        let state = after(before).after(STOP_MEMBER);
        assert_eq!(state, ConnectionState::Stopped, "{before:?}");
    }
}

#[test]
fn a_stop_that_keeps_the_session_waits_for_acknowledgements_then_disconnects() {
    let stops = [
        after(&[ConnAck, STOP]),
        after(&[ConnAck, SubAck, STOP]),
        after(&[ConnAck, SubAck, STOP_MEMBER, KEEP]),
    ];
    for state in stops {
        assert_eq!(state, ConnectionState::Finishing);
        assert!(!state.accepts_messages());
        assert_eq!(state.due_request(false, true), None);
        assert_eq!(state.due_request(true, true), Some(StopRequest::Disconnect));
        let disconnecting = state.after(RequestQueued);
        assert_eq!(disconnecting.due_request(true, true), None);
        assert_eq!(
            disconnecting.after(Disconnected).after(Stopped),
            ConnectionState::Stopped
        );
    }
}

#[test]
fn a_member_that_leaves_ends_one_subscription_after_the_other() {
    let unsubscribe = |filter| Some(StopRequest::Unsubscribe { filter });
    let first = after(&[ConnAck, SubAck, STOP_MEMBER, REMOVE]);
    assert!(first.accepts_messages());
    assert_eq!(first.due_request(false, false), None, "before the SUBACK");
    assert_eq!(first.due_request(false, true), unsubscribe(0));
    let sent = first.after(RequestQueued);
    assert_eq!(sent.due_request(true, true), None);
    let second = sent.after(ACCEPTED);
    assert_eq!(second.due_request(false, true), unsubscribe(1));
    assert_eq!(
        second.after(RequestQueued).after(ACCEPTED),
        ConnectionState::Emptying
    );
}

#[test]
fn a_session_is_empty_when_only_the_answer_comes() {
    let emptying = left();
    assert_eq!(emptying.due_request(false, true), None);
    assert_eq!(
        emptying.due_request(true, true),
        Some(StopRequest::UnsubscribeAgain)
    );
    let confirming = emptying.after(RequestQueued);
    assert_eq!(confirming.after(Message).after(ACCEPTED), emptying);
    let empty = confirming.after(ACCEPTED);
    assert_eq!(empty.after(Message), emptying);
    assert!(empty.is_leaving() && empty.accepts_messages());
    assert_eq!(empty.due_request(true, true), Some(StopRequest::Disconnect));
    let disconnecting = empty.after(RequestQueued);
    assert!(!disconnecting.is_leaving() && !disconnecting.accepts_messages());
    assert_eq!(
        disconnecting.after(Disconnected),
        ConnectionState::RemovingSession
    );
}

#[test]
fn a_member_that_may_not_leave_keeps_its_session() {
    let leaving = [
        after(&[ConnAck, SubAck, STOP_MEMBER, REMOVE, RequestQueued]),
        left().after(RequestQueued),
    ];
    for state in leaving {
        assert_eq!(state.after(REFUSED), ConnectionState::Finishing);
    }
}
