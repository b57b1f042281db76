use super::*;

const MS: Duration = Duration::from_millis(1);

fn closings(delay: u32, period: u32, count: u32) -> Vec<u128> {
    let plan = DrainPlan {
        delay: delay * MS,
        period: period * MS,
    };
    plan.closings(count)
        .map(|after| after.as_millis())
        .collect()
}

#[test]
fn clients_are_closed_evenly_over_the_period_after_the_delay() {
    assert_eq!(closings(0, 1000, 3), [100, 400, 700]);
    assert_eq!(closings(5000, 1000, 3), [5100, 5400, 5700]);
    assert_eq!(closings(5000, 1000, 0), []);
}

#[test]
fn every_client_has_its_notice_unless_the_period_is_shorter() {
    assert_eq!(closings(0, 10_000, 1), [100]);
    assert_eq!(closings(0, 10, 2), [10, 10]);
    assert_eq!(closings(0, 0, 2), [0, 0]);
}

#[test]
fn no_second_has_more_closings_than_its_share() {
    let times = closings(0, 5000, 2000);
    for second in 0..5 {
        let within = times.iter().filter(|at| **at / 1000 == second).count();
        assert!(within <= 2000 / 5 * 11 / 10, "{within} in second {second}");
    }
}
