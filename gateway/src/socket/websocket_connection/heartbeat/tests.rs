use super::*;

const INTERVAL: Duration = Duration::from_secs(25);
const TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn pings_are_sent_in_the_interval_while_anything_arrives() {
    let start = Instant::now();
    let mut heartbeat = Heartbeat::new(INTERVAL, TIMEOUT, start);
    for number in 1..10 {
        let now = start + INTERVAL * number;
        // The answer to the ping before.
        let last_read = start + INTERVAL * (number - 1) + Duration::from_secs(1);
        assert_eq!(heartbeat.due(last_read), now);
        assert_eq!(heartbeat.act(last_read, now), Due::Ping);
        assert_eq!(heartbeat.act(last_read, now), Due::Nothing);
    }
}

#[test]
fn a_silent_client_is_gone_after_the_interval_and_the_timeout() {
    let start = Instant::now();
    let mut heartbeat = Heartbeat::new(INTERVAL, TIMEOUT, start);
    assert_eq!(heartbeat.act(start, start + INTERVAL), Due::Ping);
    let gone = start + INTERVAL + TIMEOUT;
    assert_eq!(heartbeat.due(start), gone);
    let before = start + INTERVAL + TIMEOUT.mul_f64(0.99);
    assert_eq!(heartbeat.act(start, before), Due::Nothing);
    assert_eq!(heartbeat.act(start, gone), Due::Close);
    // Something arrived just before.
    assert_eq!(heartbeat.act(before, gone), Due::Nothing);
}
