use proptest::prelude::*;

use super::*;

fn release(order: &mut AckOrder) -> Vec<u16> {
    let mut released = Vec::new();
    while let Some(packet) = order.ready() {
        released.push(packet);
        order.pop();
    }
    released
}

#[test]
fn messages_are_released_in_the_order_of_arrival() {
    let mut order = AckOrder::default();
    let [first, second, third] = [7, 8, 9].map(|packet| order.push(packet));
    order.finish(second);
    assert!(release(&mut order).is_empty());
    order.finish(first);
    assert_eq!(release(&mut order), [7, 8]);
    order.finish(third);
    assert_eq!(release(&mut order), [9]);
    assert!(order.is_empty());
}

#[test]
fn a_ticket_of_an_earlier_connection_releases_nothing() {
    let mut order = AckOrder::default();
    let old = order.push(1);
    order.reset();
    order.push(1);
    order.finish(old);
    assert!(release(&mut order).is_empty());
}

#[test]
fn finishing_twice_releases_once() {
    let mut order = AckOrder::default();
    let ticket = order.push(1);
    order.finish(ticket);
    assert_eq!(release(&mut order), [1]);
    order.push(2);
    order.finish(ticket);
    assert!(release(&mut order).is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Push,
    Finish(prop::sample::Index),
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Push),
        6 => any::<prop::sample::Index>().prop_map(Step::Finish),
        1 => Just(Step::Reset),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// After any sequence of steps, the released messages are the longest prefix of this connection's messages in which all
    /// are finished.
    #[test]
    fn released_is_the_finished_prefix_of_this_connection(steps in steps()) {
        let mut order = AckOrder::default();
        let mut tickets = Vec::new();
        // A simple model: (ticket, packet, finished) of each message of this connection, and the number released.
        let mut model: Vec<(Ticket, u16, bool)> = Vec::new();
        let mut released = 0;
        let mut packet = 0;
        for step in steps {
            match step {
                Step::Push => {
                    packet += 1;
                    let ticket = order.push(packet);
                    tickets.push(ticket);
                    model.push((ticket, packet, false));
                }
                Step::Finish(_) if tickets.is_empty() => {}
                Step::Finish(index) => {
                    let ticket = *index.get(&tickets);
                    order.finish(ticket);
                    for entry in model.iter_mut().filter(|entry| entry.0 == ticket) {
                        entry.2 = true;
                    }
                }
                Step::Reset => {
                    order.reset();
                    model.clear();
                    released = 0;
                }
            }
            let prefix = model.iter().take_while(|entry| entry.2).count();
            let expected: Vec<u16> = model[released..prefix].iter().map(|entry| entry.1).collect();
            prop_assert_eq!(release(&mut order), expected);
            released = prefix;
            prop_assert_eq!(order.is_empty(), released == model.len());
        }
    }
}
