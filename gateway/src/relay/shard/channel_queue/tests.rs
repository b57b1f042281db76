use super::*;

#[test]
fn after_a_flood_its_memory_is_returned() {
    let mut queue = ChannelQueue::default();
    for number in 0..100_000 {
        queue.push(&Channel::from(number.to_string()));
    }
    while queue.waiting.len() > 10 {
        queue.pop();
    }
    queue.shrink();
    let capacity = queue.numbers.capacity();
    assert!(capacity < 2000, "{capacity}");
    assert_eq!(queue.pop().as_deref(), Some("99990"));
}
