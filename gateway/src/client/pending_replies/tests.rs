use super::*;

#[test]
fn what_took_too_long_is_not_waited_for_again() {
    let replies = Arc::new(PendingReplies::default());
    assert!(replies.are_answered());
    let unreadable = replies.begin();
    assert!(!replies.are_answered());
    replies.give_up();
    assert!(replies.are_answered());
    // Others are waited for.
    let other = replies.begin();
    assert!(!replies.are_answered());
    drop(other);
    assert!(replies.are_answered());
    drop(unreadable);
    let next = replies.begin();
    assert!(!replies.are_answered());
    assert!(!next.is_above(1));
}
